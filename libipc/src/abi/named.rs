//! Small enums that kernel and servers tell each other by number, and people by a text.

/// A small enum whose members have a number and a text.
macro_rules! named {
    ($(#[$about:meta])* $kind:ident { $($name:ident = $number:literal, $text:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
        #[repr(u8)]
        pub enum $kind { $(#[doc = $text] $name = $number,)* }

        impl $kind {
            /// The one with this number.
            pub fn from_number(number: u64) -> Option<$kind> {
                [$($kind::$name),*].into_iter().find(|one| *one as u64 == number)
            }
        }

        impl core::fmt::Display for $kind {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $($kind::$name => $text,)* })
            }
        }
    };
}
pub(crate) use named;
