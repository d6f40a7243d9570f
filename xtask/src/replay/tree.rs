//! A server's state as a tree that people read: what it serialises, with its names. Two of them are compared row by
//! row and field by field.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Serialize};

/// Branches that fit into so many characters are written in one line.
const LINE: usize = 100;
/// Most bytes of a byte string that are shown.
const BYTES_SHOWN: usize = 48;
/// From here on a number is most likely an address.
const ADDRESSES: u64 = 1 << 40;

/// A value: one word, a byte, or a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tree {
    /// What has no parts.
    Leaf(String),
    /// One byte: a list of nothing else is a byte string.
    Byte(u8),
    /// A structure's fields, a table's rows, a list's elements. The name is the type's, or empty.
    Branch(String, Vec<(String, Tree)>),
}

/// A state cannot be shown: it has something that no tree has.
#[derive(Debug)]
pub struct Unshown(String);

impl Display for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state cannot be shown: {}", self.0)
    }
}

impl std::error::Error for Unshown {}

impl ser::Error for Unshown {
    fn custom<T: Display>(words: T) -> Unshown {
        Unshown(words.to_string())
    }
}

impl Tree {
    /// The tree of a value.
    pub fn of(value: &impl Serialize) -> Result<Tree, Unshown> {
        value.serialize(Maker)
    }

    fn leaf(value: impl Display) -> Tree {
        Tree::Leaf(value.to_string())
    }

    /// The value in one line.
    fn line(&self) -> String {
        match self {
            Tree::Leaf(word) => word.clone(),
            Tree::Byte(byte) => byte.to_string(),
            Tree::Branch(name, parts) => {
                let listed = parts.first().is_some_and(|(key, _)| is_place(key));
                let keyed = |(key, part): &(String, Tree)| match listed {
                    true => part.line(),
                    false => keyed(key, &part.line()),
                };
                let line = parts.iter().map(keyed).collect::<Vec<_>>().join(", ");
                match (name.as_str(), listed) {
                    ("", true) => format!("({line})"),
                    ("", false) => format!("{{{line}}}"),
                    (name, _) if line.is_empty() => name.to_owned(),
                    (name, true) => format!("{name}({line})"),
                    (name, false) => format!("{name} {{{line}}}"),
                }
            }
        }
    }

    /// The value over as many lines as it takes, each `depth` steps to the right.
    pub fn write(&self, key: &str, depth: usize, text: &mut String) {
        let line = keyed(key, &self.line());
        let indent = "  ".repeat(depth);
        match self {
            Tree::Branch(name, parts) if line.len() + indent.len() > LINE => {
                let _ = writeln!(text, "{indent}{}", keyed(key, name).trim_end());
                parts.iter().for_each(|(key, part)| part.write(key, depth + 1, text));
            }
            _ => {
                let _ = writeln!(text, "{indent}{line}");
            }
        }
    }

    /// What has changed since, a line each: `-` is gone, `+` is new, and between two values `->`.
    pub fn changes(&self, later: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        compare("", self, later, &mut lines);
        lines
    }
}

/// Whether a key is a place in a list.
fn is_place(key: &str) -> bool {
    key.starts_with('[')
}

fn below(path: &str, key: &str) -> String {
    let dot = if path.is_empty() || is_place(key) { "" } else { "." };
    format!("{path}{dot}{key}")
}

fn keyed(key: &str, value: &str) -> String {
    if key.is_empty() { value.to_owned() } else { format!("{key}: {value}") }
}

fn compare(path: &str, old: &Tree, new: &Tree, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    let (Tree::Branch(name, before), Tree::Branch(later, after)) = (old, new) else {
        return lines.push(format!("  {path}: {} -> {}", old.line(), new.line()));
    };
    if name != later {
        return lines.push(format!("  {path}: {} -> {}", old.line(), new.line()));
    }
    let find = |list: &[(String, Tree)], key: &str, guess: usize| {
        let near = list.get(guess).filter(|(other, _)| other == key).map(|_| guess);
        near.or_else(|| list.iter().position(|(other, _)| other == key))
    };
    for (index, (key, part)) in before.iter().enumerate() {
        let path = below(path, key);
        match find(after, key, index) {
            Some(at) => compare(&path, part, &after[at].1, lines),
            None => lines.push(format!("- {path}: {}", part.line())),
        }
    }
    for (index, (key, part)) in after.iter().enumerate() {
        if find(before, key, index).is_none() {
            lines.push(format!("+ {}: {}", below(path, key), part.line()));
        }
    }
}

/// Bytes as text where they are text, and else as hexadecimal digits.
fn bytes(bytes: &[u8]) -> Tree {
    let shown = &bytes[..bytes.len().min(BYTES_SHOWN)];
    let rest = if bytes.len() > shown.len() { format!("… {} bytes", bytes.len()) } else { String::new() };
    let text = shown.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    let words = match text {
        true => format!("{:?}", String::from_utf8_lossy(shown)),
        false if bytes.iter().all(|byte| *byte == 0) => return Tree::Leaf(format!("{} zeroes", bytes.len())),
        false => shown.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    };
    Tree::Leaf(words + &rest)
}

/// Makes a tree of what it is told.
struct Maker;

/// Makes a branch, part by part.
struct Parts {
    name: String,
    parts: Vec<(String, Tree)>,
    key: String,
}

impl Parts {
    fn new(name: impl Into<String>) -> Parts {
        Parts { name: name.into(), parts: Vec::new(), key: String::new() }
    }

    /// Adds a part by its name, or by its place.
    fn add(&mut self, name: Option<&str>, value: &(impl Serialize + ?Sized)) -> Result<(), Unshown> {
        let key = name.map_or_else(|| format!("[{}]", self.parts.len()), str::to_owned);
        self.parts.push((key, value.serialize(Maker)?));
        Ok(())
    }

    fn branch(self) -> Tree {
        let all: Option<Vec<u8>> = self.parts.iter().map(|(_, part)| part.byte()).collect();
        match all {
            Some(all) if !all.is_empty() && self.name.is_empty() => bytes(&all),
            _ => Tree::Branch(self.name, self.parts),
        }
    }
}

impl Tree {
    fn byte(&self) -> Option<u8> {
        if let Tree::Byte(byte) = self { Some(*byte) } else { None }
    }
}

/// What is one word.
macro_rules! leaves {
    ($($tell:ident($($argument:tt: $kind:ty),*) $word:expr),*) => {
        $(fn $tell(self, $($argument: $kind),*) -> Result<Tree, Unshown> {
            Ok(Tree::leaf($word))
        })*
    };
}

/// What has parts, which follow.
macro_rules! branches {
    ($($begin:ident($($argument:tt: $kind:ty),*) $name:expr),*) => {
        $(fn $begin(self, $($argument: $kind),*) -> Result<Parts, Unshown> {
            Ok(Parts::new($name))
        })*
    };
}

impl ser::Serializer for Maker {
    type Ok = Tree;
    type Error = Unshown;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    leaves!(
        serialize_bool(value: bool) value,
        serialize_i8(value: i8) value,
        serialize_i16(value: i16) value,
        serialize_i32(value: i32) value,
        serialize_i64(value: i64) value,
        serialize_u16(value: u16) value,
        serialize_u32(value: u32) value,
        serialize_f32(value: f32) value,
        serialize_f64(value: f64) value,
        serialize_char(value: char) value,
        serialize_none() "none",
        serialize_unit() "()",
        serialize_unit_struct(name: &'static str) name,
        serialize_unit_variant(_: &'static str, _: u32, name: &'static str) name
    );

    fn serialize_u8(self, value: u8) -> Result<Tree, Unshown> {
        Ok(Tree::Byte(value))
    }

    fn serialize_u64(self, value: u64) -> Result<Tree, Unshown> {
        Ok(if value < ADDRESSES { Tree::leaf(value) } else { Tree::Leaf(format!("{value:#x}")) })
    }

    fn serialize_str(self, value: &str) -> Result<Tree, Unshown> {
        Ok(Tree::Leaf(format!("{value:?}")))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Tree, Unshown> {
        Ok(bytes(value))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, Unshown> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Tree, Unshown> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Tree, Unshown> {
        Ok(Tree::Branch(name.to_owned(), vec![("[0]".to_owned(), value.serialize(self)?)]))
    }

    branches!(
        serialize_seq(_: Option<usize>) "",
        serialize_tuple(_: usize) "",
        serialize_map(_: Option<usize>) "",
        serialize_struct(name: &'static str, _: usize) name,
        serialize_tuple_struct(name: &'static str, _: usize) name,
        serialize_struct_variant(_: &'static str, _: u32, name: &'static str, _: usize) name,
        serialize_tuple_variant(_: &'static str, _: u32, name: &'static str, _: usize) name
    );
}

/// What is told part by part: by its place, or by a name that comes with it.
macro_rules! parts {
    ($($of:ident: $add:ident($($key:ident: $kind:ty)?);)*) => {
        $(impl ser::$of for Parts {
            type Ok = Tree;
            type Error = Unshown;

            fn $add<T: Serialize + ?Sized>(&mut self, $($key: $kind,)? value: &T) -> Result<(), Unshown> {
                self.add(None$(.or(Some($key)))?, value)
            }

            fn end(self) -> Result<Tree, Unshown> {
                Ok(self.branch())
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(name: &'static str);
    SerializeStructVariant: serialize_field(name: &'static str);
}

impl ser::SerializeMap for Parts {
    type Ok = Tree;
    type Error = Unshown;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unshown> {
        self.key = key.serialize(Maker)?.line();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unshown> {
        let key = std::mem::take(&mut self.key);
        self.add(Some(&key), value)
    }

    fn end(self) -> Result<Tree, Unshown> {
        Ok(Tree::Branch(self.name, self.parts))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    #[derive(Clone, Serialize)]
    struct Pid(u32);

    #[derive(Clone, Serialize)]
    enum Life {
        Running,
        Zombie { status: u32 },
    }

    #[derive(Clone, Serialize)]
    struct Process {
        pid: Pid,
        life: Life,
        name: Vec<u8>,
        parent: Option<Pid>,
    }

    fn state() -> BTreeMap<(u32, u32), Process> {
        let init = Process { pid: Pid(1), life: Life::Running, name: b"sh".to_vec(), parent: None };
        BTreeMap::from([((0, 1), init.clone()), ((0, 2), Process { pid: Pid(2), ..init })])
    }

    fn text(state: &impl Serialize) -> String {
        let mut text = String::new();
        Tree::of(state).unwrap().write("", 0, &mut text);
        text
    }

    #[test]
    fn a_state_reads_as_its_types_are_written() {
        let expected = "\n  (0, 1): Process {pid: 1, life: Running, name: \"sh\", parent: none}\n  \
                        (0, 2): Process {pid: 2, life: Running, name: \"sh\", parent: none}\n";
        assert_eq!(text(&state()), expected);
        assert_eq!(text(&[0u8, 255, 7]), "00 ff 07\n");
        assert_eq!(text(&vec![0u8; 9]), "9 zeroes\n");
        assert_eq!(text(&vec![b'x'; 60]), format!("\"{}\"… 60 bytes\n", "x".repeat(48)));
    }

    #[test]
    fn only_the_rows_and_fields_that_changed_are_told() {
        let (old, mut new) = (state(), state());
        assert!(Tree::of(&old).unwrap().changes(&Tree::of(&new).unwrap()).is_empty());
        new.get_mut(&(0, 2)).unwrap().parent = Some(Pid(1));
        let first = new.remove(&(0, 1)).unwrap();
        new.insert((0, 3), Process { life: Life::Zombie { status: 9 }, ..first });
        let changes = Tree::of(&old).unwrap().changes(&Tree::of(&new).unwrap());
        assert_eq!(
            changes,
            [
                "- (0, 1): Process {pid: 1, life: Running, name: \"sh\", parent: none}",
                "  (0, 2).parent: none -> 1",
                "+ (0, 3): Process {pid: 1, life: Zombie {status: 9}, name: \"sh\", parent: none}",
            ]
        );
    }
}
