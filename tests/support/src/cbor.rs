//! CBOR values as they stand on the wire: byte strings, text and tags are kept apart.
//!
//! Values are written in diagnostic notation: `'x'` and `h'00'` are byte strings, `"x"` is text,
//! `128(['a'])` a tagged array, `<<1>>` a byte string that holds the encoding of `1`.

use std::fmt;

/// One CBOR item. Two maps are equal if they have the same entries, in whatever order.
#[derive(Clone, Debug)]
pub enum Value {
    Unsigned(u64),
    /// The number −1 − n.
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Tag(u64, Box<Value>),
    Bool(bool),
    Null,
    Undefined,
    Simple(u8),
    Float(f64),
}

/// Why bytes are no whole CBOR item.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes have to come.
    Incomplete,
    Malformed(&'static str),
}

impl Value {
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bytes(bytes.as_ref().to_vec())
    }

    pub fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    pub fn tuple(items: Vec<Value>) -> Value {
        Value::Tag(128, Box::new(Value::Array(items)))
    }

    /// The entry of a map under a key that is this byte string or this text.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Map(entries) = self else {
            panic!("not a map: {self}")
        };
        entries
            .iter()
            .find(|(k, _)| k.name().as_deref() == Some(key))
            .map(|(_, v)| v)
    }

    /// The entry of a map that must have it.
    pub fn at(&self, key: &str) -> &Value {
        self.get(key)
            .unwrap_or_else(|| panic!("no entry {key} in {self}"))
    }

    /// What stands at an index of a list or tuple.
    pub fn item(&self, index: usize) -> &Value {
        &self.items()[index]
    }

    /// The items of a list, or of a tuple.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) => items,
            Value::Tag(128, inner) => inner.items(),
            _ => panic!("not a list: {self}"),
        }
    }

    /// A byte string or text as a name: the protocol takes both for the same.
    pub fn name(&self) -> Option<String> {
        match self {
            Value::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A number, integer or float.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Unsigned(n) => Some(*n as f64),
            Value::Negative(n) => Some(-1.0 - *n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Value::Unsigned(n) => head(out, 0, *n),
            Value::Negative(n) => head(out, 1, *n),
            Value::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Array(items) => {
                head(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.encode_to(out));
            }
            Value::Map(entries) => {
                head(out, 5, entries.len() as u64);
                for (key, value) in entries {
                    key.encode_to(out);
                    value.encode_to(out);
                }
            }
            Value::Tag(tag, inner) => {
                head(out, 6, *tag);
                inner.encode_to(out);
            }
            Value::Bool(false) => out.push(0xf4),
            Value::Bool(true) => out.push(0xf5),
            Value::Null => out.push(0xf6),
            Value::Undefined => out.push(0xf7),
            Value::Simple(n) if *n < 24 => out.push(0xe0 | n),
            Value::Simple(n) => out.extend_from_slice(&[0xf8, *n]),
            Value::Float(x) => {
                out.push(0xfb);
                out.extend_from_slice(&x.to_be_bytes());
            }
        }
    }

    /// Reads one item from the start of `bytes`: the value, and how many bytes it took.
    pub fn decode(bytes: &[u8]) -> Result<(Value, usize), DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.item()?;
        Ok((value, reader.at))
    }

    /// Reads an item that must fill `bytes`.
    pub fn decode_all(bytes: &[u8]) -> Value {
        match Value::decode(bytes) {
            Ok((value, used)) if used == bytes.len() => value,
            other => panic!("not one CBOR item: {other:?} in {bytes:02x?}"),
        }
    }
}

/// The start of an item: its major type and its number, in the shortest form.
pub fn head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    match number {
        0..24 => out.push(major | number as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, number as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// The length of the item at the start of `bytes`, if it is there as a whole. Cheap for what the
/// daemon sends: tag 24 around a byte string.
pub fn item_length(bytes: &[u8]) -> Result<usize, DecodeError> {
    if bytes.starts_with(&[0xd8, 24]) {
        let mut reader = Reader { bytes, at: 2 };
        let (major, _, number) = reader.head()?;
        if major == 2 {
            let end = reader
                .at
                .saturating_add(usize::try_from(number).unwrap_or(usize::MAX));
            return if end <= bytes.len() {
                Ok(end)
            } else {
                Err(DecodeError::Incomplete)
            };
        }
    }
    Value::decode(bytes).map(|(_, used)| used)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const BREAK: u8 = 0xff;

impl Reader<'_> {
    fn take(&mut self, count: u64) -> Result<&[u8], DecodeError> {
        let left = self.bytes.len() - self.at;
        if count > left as u64 {
            return Err(DecodeError::Incomplete);
        }
        let begin = self.at;
        self.at += count as usize;
        Ok(&self.bytes[begin..self.at])
    }

    /// Major type, the low five bits, and the number they give.
    fn head(&mut self) -> Result<(u8, u8, u64), DecodeError> {
        let first = self.take(1)?[0];
        let low = first & 0x1f;
        let number = match low {
            0..24 => u64::from(low),
            24..28 => self
                .take(1 << (low - 24))?
                .iter()
                .fold(0, |n, b| n << 8 | u64::from(*b)),
            31 => 0,
            _ => return Err(DecodeError::Malformed("reserved length")),
        };
        Ok((first >> 5, low, number))
    }

    fn at_break(&mut self) -> Result<bool, DecodeError> {
        let found = *self.bytes.get(self.at).ok_or(DecodeError::Incomplete)? == BREAK;
        self.at += usize::from(found);
        Ok(found)
    }

    fn item(&mut self) -> Result<Value, DecodeError> {
        let (major, low, number) = self.head()?;
        let indefinite = low == 31;
        Ok(match major {
            0 | 1 | 6 if indefinite => return Err(DecodeError::Malformed("indefinite number")),
            0 => Value::Unsigned(number),
            1 => Value::Negative(number),
            2 => Value::Bytes(self.string(2, indefinite, number)?),
            3 => Value::Text(
                String::from_utf8(self.string(3, indefinite, number)?)
                    .map_err(|_| DecodeError::Malformed("text that is not UTF-8"))?,
            ),
            4 => Value::Array(self.array(indefinite, number)?),
            5 => {
                let count = if indefinite {
                    0
                } else {
                    number.saturating_mul(2)
                };
                let mut items = self.array(indefinite, count)?.into_iter();
                let mut entries = Vec::new();
                while let Some(key) = items.next() {
                    entries.push((
                        key,
                        items
                            .next()
                            .ok_or(DecodeError::Malformed("half an entry"))?,
                    ));
                }
                Value::Map(entries)
            }
            6 => Value::Tag(number, Box::new(self.item()?)),
            _ => match low {
                20 => Value::Bool(false),
                21 => Value::Bool(true),
                22 => Value::Null,
                23 => Value::Undefined,
                25 => Value::Float(half(number as u16)),
                26 => Value::Float(f64::from(f32::from_bits(number as u32))),
                27 => Value::Float(f64::from_bits(number)),
                31 => return Err(DecodeError::Malformed("break without a beginning")),
                _ => Value::Simple(number as u8),
            },
        })
    }

    fn string(&mut self, major: u8, indefinite: bool, length: u64) -> Result<Vec<u8>, DecodeError> {
        if !indefinite {
            return Ok(self.take(length)?.to_vec());
        }
        let mut whole = Vec::new();
        while !self.at_break()? {
            let (piece, low, length) = self.head()?;
            if piece != major || low == 31 {
                return Err(DecodeError::Malformed("piece of another type"));
            }
            whole.extend_from_slice(self.take(length)?);
        }
        Ok(whole)
    }

    fn array(&mut self, indefinite: bool, count: u64) -> Result<Vec<Value>, DecodeError> {
        let mut items = Vec::new();
        while if indefinite {
            !self.at_break()?
        } else {
            (items.len() as u64) < count
        } {
            items.push(self.item()?);
        }
        Ok(items)
    }
}

/// An IEEE half float.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Unsigned(a), Value::Unsigned(b)) | (Value::Negative(a), Value::Negative(b)) => {
                a == b
            }
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, value)| b.iter().any(|(k, v)| k == key && v == value))
            }
            (Value::Tag(a, x), Value::Tag(b, y)) => a == b && x == y,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Simple(a), Value::Simple(b)) => a == b,
            // −0.0 is another number than 0.0 here, and NaN is like NaN.
            (Value::Float(a), Value::Float(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            (Value::Null, Value::Null) | (Value::Undefined, Value::Undefined) => true,
            _ => false,
        }
    }
}

/// Reads diagnostic notation.
///
/// # Panics
/// If `text` is not the notation of one value.
pub fn diag(text: &str) -> Value {
    let mut parser = Parser { text, rest: text };
    let value = parser.value();
    parser.space();
    assert!(
        parser.rest.is_empty(),
        "{:?} is left of {text:?}",
        parser.rest
    );
    value
}

/// Reads the notation of values with commas between them: a parameter list without its brackets.
pub fn diag_list(text: &str) -> Vec<Value> {
    diag(&format!("[{text}]")).items().to_vec()
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn accept(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) {
        assert!(
            self.accept(token),
            "expected {token:?} at {:?} of {:?}",
            self.rest,
            self.text
        );
    }

    fn value(&mut self) -> Value {
        const WORDS: [(&str, Value); 7] = [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("undefined", Value::Undefined),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ];
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| self.accept(name)) {
            return word.clone();
        }
        if self.accept("h'") {
            let (hex, rest) = self.rest.split_once('\'').expect("hex ends with a quote");
            self.rest = rest;
            return Value::Bytes(unhex(hex));
        }
        if self.accept("<<") {
            let inner = self.value();
            self.expect(">>");
            return Value::Bytes(inner.encode());
        }
        if self.accept("'") {
            return Value::Bytes(self.quoted('\'').into_bytes());
        }
        if self.accept("\"") {
            return Value::Text(self.quoted('"'));
        }
        if self.accept("[") {
            return Value::Array(self.until("]", Parser::value));
        }
        if self.accept("{") {
            return Value::Map(self.until("}", |parser| {
                let key = parser.value();
                parser.expect(":");
                (key, parser.value())
            }));
        }
        self.number()
    }

    fn until<T>(&mut self, end: &str, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut all = Vec::new();
        while !self.accept(end) {
            all.push(one(self));
            if !self.accept(",") {
                self.expect(end);
                break;
            }
        }
        all
    }

    fn number(&mut self) -> Value {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if self.rest.starts_with('(') {
            self.expect("(");
            let inner = self.value();
            self.expect(")");
            return Value::Tag(token.parse().expect("tag"), Box::new(inner));
        }
        if token.contains(['.', 'e']) {
            return Value::Float(
                token
                    .parse()
                    .unwrap_or_else(|_| panic!("no value: {token:?} in {:?}", self.text)),
            );
        }
        match token.strip_prefix('-') {
            None => whole_number(token, 0),
            Some(digits) => whole_number(digits, 1),
        }
    }

    fn quoted(&mut self, quote: char) -> String {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[at + 1..];
                return out;
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let code = |chars: &mut std::str::CharIndices, digits| {
                let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                u16::from_str_radix(&hex, 16).expect("hex digits")
            };
            match chars.next().expect("an escaped character").1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => {
                    let mut units = vec![code(&mut chars, 4)];
                    if (0xd800..0xdc00).contains(&units[0]) {
                        chars.by_ref().take(2).for_each(drop);
                        units.push(code(&mut chars, 4));
                    }
                    out.push_str(&String::from_utf16(&units).expect("UTF-16"));
                }
                other => out.push(other),
            }
        }
        panic!("no end of the string in {:?}", self.text);
    }
}

/// An integer from its decimal digits: `negative` 1 is the major type of negative ones. What needs
/// more than 64 bits becomes tag 2 or 3.
fn whole_number(digits: &str, negative: u64) -> Value {
    let mut bytes = Vec::<u8>::new();
    for digit in digits.bytes() {
        assert!(digit.is_ascii_digit(), "no number: {digits:?}");
        let mut carry = u16::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            carry += u16::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    if negative == 1 {
        for byte in bytes.iter_mut().rev() {
            let (less, borrow) = byte.overflowing_sub(1);
            *byte = less;
            if !borrow {
                break;
            }
        }
    }
    while bytes.first() == Some(&0) {
        bytes.remove(0);
    }
    if bytes.len() > 8 {
        return Value::Tag(2 + negative, Box::new(Value::Bytes(bytes)));
    }
    let number = bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    if negative == 1 {
        Value::Negative(number)
    } else {
        Value::Unsigned(number)
    }
}

/// Bytes from their hexadecimal digits.
pub fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "an odd number of digits");
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex digits"))
        .collect()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
            }
            Ok::<(), fmt::Error>(())
        };
        match self {
            Value::Unsigned(n) => write!(f, "{n}"),
            Value::Negative(n) => write!(f, "{}", -1 - i128::from(*n)),
            Value::Bytes(bytes) if bytes.iter().all(|b| (b' '..=b'~').contains(b)) => {
                write!(f, "'{}'", String::from_utf8_lossy(bytes))
            }
            Value::Bytes(bytes) => {
                write!(f, "h'")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                write!(f, "'")
            }
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Array(items) => {
                write!(f, "[")?;
                list(f, items)?;
                write!(f, "]")
            }
            Value::Map(entries) => {
                write!(f, "{{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, "}}")
            }
            Value::Tag(tag, inner) => write!(f, "{tag}({inner})"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Null => write!(f, "null"),
            Value::Undefined => write!(f, "undefined"),
            Value::Simple(n) => write!(f, "simple({n})"),
            Value::Float(x) => write!(f, "{x:?}"),
        }
    }
}
