//! Words of the kernel's command line: `name=value`, apart by spaces.

/// The value of the word with this name (`name=`); an empty one when it is no text.
pub(crate) fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let mut words = line.split(|byte| *byte == b' ');
    words.find_map(|word| word.strip_prefix(name)).map(|word| core::str::from_utf8(word).unwrap_or_default())
}
