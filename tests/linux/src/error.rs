//! Errors of system calls, with their names, so that a failed comparison can be read.

use std::fmt;

/// The number of an error; it prints as its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a function of the C library returns: something, with one value that means failure.
pub trait Answer: Copy {
    /// Whether this value means that the error is in `errno`.
    fn is_failure(self) -> bool;
}

macro_rules! signed {
    ($($integer:ty)*) => { $(impl Answer for $integer {
        fn is_failure(self) -> bool {
            self == -1
        }
    })* };
}

signed!(i32 i64 isize);

impl Answer for u32 {
    fn is_failure(self) -> bool {
        false
    }
}

impl<T> Answer for *mut T {
    fn is_failure(self) -> bool {
        self as isize == -1
    }
}

impl Errno {
    /// The error of the last call that failed in this thread.
    pub fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// What a function returned, or the error it left.
    pub fn check<T: Answer>(answer: T) -> Result<T, Errno> {
        if answer.is_failure() { Err(Errno::last()) } else { Ok(answer) }
    }
}

macro_rules! errors {
    ($($name:ident)*) => {
        /// The errors by name.
        pub mod names {
            use super::Errno;
            $(
                #[doc = concat!("`", stringify!($name), "` as a value to compare with.")]
                pub const $name: Errno = Errno(libc::$name);
            )*
        }

        impl fmt::Debug for Errno {
            fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                match *self {
                    $(names::$name => formatter.write_str(stringify!($name)),)*
                    Errno(number) => write!(formatter, "errno {number}"),
                }
            }
        }
    };
}

errors! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE
    EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EOVERFLOW EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE
    ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ECONNRESET EISCONN ENOTCONN
    ETIMEDOUT ECONNREFUSED EALREADY EINPROGRESS ESTALE EOWNERDEAD ENOTRECOVERABLE
}
