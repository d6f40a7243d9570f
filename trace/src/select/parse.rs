//! Reading an expression, and saying what is wrong with it.

use std::fmt;

use super::{Comparison, Expression, FIELDS, FLAGS, Field, Value, Values};
use crate::linux::errno_number;

/// An expression that cannot be read: where, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadExpression {
    /// The expression.
    pub expression: String,
    /// Characters before the place.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for BadExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        writeln!(f, "    {}", self.expression)?;
        write!(f, "    {}^", " ".repeat(self.at))
    }
}

impl std::error::Error for BadExpression {}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    /// Between quotes: never a keyword.
    Quoted(String),
    Comparison(Comparison),
    Comma,
    Open,
    Close,
}

/// Longest first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 7] = [
    ("!=", Comparison::Unequal),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::MoreOrEqual),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::More),
    ("~", Comparison::Contains),
];

/// How deep parentheses and `not` may go.
const DEPTH_MAX: usize = 64;

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

type Read<T> = Result<T, BadExpression>;

/// Reads an expression.
pub fn expression(text: &str) -> Read<Expression> {
    let mut reader = Reader { text, tokens: tokens(text)?, at: 0, depth: 0 };
    if reader.tokens.is_empty() {
        return Ok(Expression::All(Vec::new()));
    }
    let expression = reader.any()?;
    match reader.peek() {
        None => Ok(expression),
        Some(_) => Err(reader.bad("a `(` is missing before this")),
    }
}

fn bad(text: &str, at: usize, reason: impl Into<String>) -> BadExpression {
    let at = text[..at].chars().count();
    BadExpression { expression: text.to_owned(), at, reason: reason.into() }
}

fn tokens(text: &str) -> Read<Vec<(usize, Token)>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let comparison = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (token, len) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '"' => {
                let inside = &rest[1..];
                let end = inside.find('"').ok_or_else(|| bad(text, at, "this text has no end"))?;
                (Token::Quoted(inside[..end].to_owned()), end + 2)
            }
            _ => match comparison {
                Some((sign, comparison)) => (Token::Comparison(*comparison), sign.len()),
                None => {
                    let ends = |c: char| c.is_whitespace() || "()=<>!~,\"".contains(c);
                    let len = rest.find(ends).unwrap_or(rest.len());
                    if len == 0 {
                        return Err(bad(text, at, "a comparison is one of = != < <= > >= ~"));
                    }
                    (Token::Word(rest[..len].to_owned()), len)
                }
            },
        };
        tokens.push((at, token));
        at += len;
    }
    Ok(tokens)
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(own)) if own == word)
    }

    /// What is wrong where the reader stands.
    fn bad(&self, reason: impl Into<String>) -> BadExpression {
        let at = self.tokens.get(self.at).map_or(self.text.len(), |(at, _)| *at);
        bad(self.text, at, reason)
    }

    fn any(&mut self) -> Read<Expression> {
        let mut parts = vec![self.all()?];
        while self.is_word("or") {
            self.at += 1;
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Read<Expression> {
        let mut parts = vec![self.one()?];
        loop {
            if self.is_word("and") {
                self.at += 1;
            } else if self.is_word("or") || matches!(self.peek(), None | Some(Token::Close)) {
                return Ok(one_or(parts, Expression::All));
            }
            parts.push(self.one()?);
        }
    }

    fn one(&mut self) -> Read<Expression> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.bad("the expression goes too deep"));
        }
        let expression = match self.peek().cloned() {
            Some(Token::Open) => {
                self.at += 1;
                let inner = self.any()?;
                if self.peek() != Some(&Token::Close) {
                    return Err(self.bad("a `)` is missing here"));
                }
                self.at += 1;
                inner
            }
            Some(Token::Word(word)) if word == "not" => {
                self.at += 1;
                Expression::Not(Box::new(self.one()?))
            }
            Some(Token::Word(word)) => self.test(&word)?,
            _ => return Err(self.bad(format!("a condition is missing here: {}", known()))),
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn test(&mut self, word: &str) -> Read<Expression> {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == word) {
            self.at += 1;
            return Ok(Expression::Flag(*flag));
        }
        let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == word) else {
            return Err(self.bad(format!("`{word}` is not known: {}", known())));
        };
        self.at += 1;
        let Some(Token::Comparison(comparison)) = self.peek().cloned() else {
            return Err(self.bad(format!("`{word}` is to be compared: {word}=…")));
        };
        let is_text = field.values() == Values::Text;
        let orders = !matches!(comparison, Comparison::Equal | Comparison::Unequal | Comparison::Contains);
        if is_text && orders {
            return Err(self.bad(format!("`{word}` is a text, to be compared with =, != or ~")));
        }
        if !is_text && comparison == Comparison::Contains {
            return Err(self.bad(format!("`{word}` is a number, which contains nothing")));
        }
        self.at += 1;
        let mut values = vec![self.value(*field)?];
        while self.peek() == Some(&Token::Comma) {
            self.at += 1;
            values.push(self.value(*field)?);
        }
        Ok(Expression::Compare(*field, comparison, values))
    }

    fn value(&mut self, field: Field) -> Read<Value> {
        let text = match self.peek() {
            Some(Token::Word(text) | Token::Quoted(text)) => text.clone(),
            _ => return Err(self.bad("a value is missing here")),
        };
        let value = match field.values() {
            Values::Text => Some(Value::Text(text.clone())),
            Values::Number => number(&text).map(Value::Number),
            Values::Time => time(&text).map(Value::Number),
            Values::Errno => {
                let named = errno_number(&text).map(i128::from);
                named.or_else(|| number(&text)).map(Value::Number)
            }
        };
        let value = value.ok_or_else(|| {
            self.bad(match field.values() {
                Values::Time => format!("`{text}` is no time: 1500, 20us, 1ms, 2s"),
                Values::Errno => format!("`{text}` is no errno: ENOENT, 2"),
                _ => format!("`{text}` is no number"),
            })
        })?;
        self.take();
        Ok(value)
    }
}

fn one_or(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() > 1 {
        return several(parts);
    }
    parts.remove(0)
}

fn known() -> String {
    let names = |all: Vec<&str>| all.join(", ");
    format!(
        "there are the fields {} and the conditions {}",
        names(FIELDS.iter().map(|(name, _)| *name).collect()),
        names(FLAGS.iter().map(|(name, _)| *name).collect()),
    )
}

fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(i128::from),
        None => text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)).ok(),
    }
}

fn time(text: &str) -> Option<i128> {
    const UNITS: [(&str, f64); 5] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1.0));
    let value: f64 = digits.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((value * factor) as i128)
}
