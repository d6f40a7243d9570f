//! What the kernel answers when it refuses a native system call.

use core::fmt;

macro_rules! kernel_errors {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// Why the kernel refused a native system call. Nothing has changed when one is returned.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
        #[repr(u8)]
        pub enum KernelError { $(#[doc = $text] $name = $number,)* }

        impl KernelError {
            /// Every error, in order of its number.
            pub const ALL: &'static [KernelError] = &[$(KernelError::$name),*];
        }

        impl fmt::Display for KernelError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(KernelError::$name => $text,)* })
            }
        }
    };
}

kernel_errors! {
    BadCall = 1, "no system call has this number";
    BadHandle = 2, "the handle names nothing, or nothing any more";
    WrongKind = 3, "the handle names an object of another kind";
    NoRight = 4, "the handle lacks the right this needs";
    BadArgument = 5, "an argument is out of its range";
    BadAddress = 6, "the address is not the caller's to use";
    NoSuchCall = 7, "the call is over, or never was this server's";
    Quota = 8, "the task's quota of this kind of object is used up";
    Exhausted = 9, "the machine has no more objects of this kind";
    SlotInUse = 10, "the slot chosen for the new handle is in use";
    NotResident = 11, "a page is not there yet; a ready event will come";
    FrameInUse = 12, "the frame is mapped, pinned or a page table";
    NotMapped = 13, "nothing is mapped there";
    NeedTable = 14, "a page-table frame is missing for this address";
    PeerDead = 15, "the server behind the handle is gone for good, or died of this call";
    TooBig = 16, "the message or window is larger than allowed";
    WrongState = 17, "the object is not in a state that allows this";
    Cancelled = 18, "the call was cancelled";
}

impl KernelError {
    /// The error with this number.
    pub fn from_number(number: u64) -> Option<KernelError> {
        Self::ALL.iter().copied().find(|error| *error as u64 == number)
    }
}

impl core::error::Error for KernelError {}
