//! Makes well-formed requests of any bytes, so that a fuzzer's or a random source's bytes get past the
//! checks of the form and into what the methods do with them.

use coordinated_client::cbor::Writer;

/// Words that mean something to some method, so that they are hit more often than by chance.
const WORDS: [&str; 44] = [
    "ws",
    "next",
    "a",
    "b",
    "",
    "w",
    "x",
    "status",
    "data",
    "output",
    "traceback",
    "lease_time",
    "worker_id",
    "delay",
    "priority",
    "adjust",
    "state",
    "start",
    "limit",
    "work_unit_keys",
    "max_jobs",
    "available_gb",
    "runtimes",
    "work_spec_names",
    "name",
    "weight",
    "nice",
    "disabled",
    "continuous",
    "interval",
    "max_running",
    "max_getwork",
    "max_retries",
    "then",
    "runtime",
    "min_gb",
    "paused",
    "expired",
    "all",
    "module",
    "run_function",
    "then_preempts",
    "key",
    "get_config",
];

const FLOATS: [f64; 8] = [
    0.0,
    -0.0,
    0.5,
    -1.0,
    1e300,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// Bytes that decisions are taken from; zeros when they have run out.
pub struct Shaper<'a> {
    bytes: &'a [u8],
}

impl<'a> Shaper<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next decision, below `choices`.
    pub fn choose(&mut self, choices: usize) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        usize::from(*first) % choices.max(1)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let taken = self.take(8);
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number)
    }

    /// The params of a method: as it wants them, for the most part.
    pub fn params(&mut self, names: &[&str], out: &mut Vec<u8>) {
        match self.choose(16) {
            0 => self.value(out, 4),
            1 => {
                Writer::new(out).map(names.len());
                for name in names {
                    Writer::new(out).bytes(name.as_bytes());
                    self.param(name, out);
                }
            }
            _ => {
                Writer::new(out).array(names.len());
                for name in names {
                    self.param(name, out);
                }
            }
        }
    }

    /// A value that a parameter of this name may like.
    fn param(&mut self, name: &str, out: &mut Vec<u8>) {
        match (name, self.choose(8)) {
            (_, 0) => self.value(out, 4),
            ("work_spec_name", choice) => word(["ws", "next"][choice % 2], out),
            ("work_unit_key", choice) => word(["a", "b", "x"][choice % 3], out),
            ("worker_id" | "locker_id", choice) => word(["w", "x"][choice % 2], out),
            ("work_unit_key_vals" | "work_unit_keys" | "updates" | "keys", _) => {
                self.array(out, Self::pair)
            }
            ("prefix", choice) if choice < 4 => self.pair(out),
            ("options" | "work_spec" | "data", _) => self.map(out, 4),
            (_, choice) if choice < 4 => Writer::new(out).unsigned(self.choose(100) as u64),
            _ => self.value(out, 4),
        }
    }

    /// A list of a word and something else, as units and paths are.
    fn pair(&mut self, out: &mut Vec<u8>) {
        let count = 1 + self.choose(3);
        Writer::new(out).array(count);
        let name = self.word();
        word(name, out);
        for _ in 1..count {
            match self.choose(2) {
                0 => self.map(out, 3),
                _ => self.value(out, 3),
            }
        }
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.choose(WORDS.len())]
    }

    fn array(&mut self, out: &mut Vec<u8>, mut item: impl FnMut(&mut Self, &mut Vec<u8>)) {
        let count = self.choose(6);
        Writer::new(out).array(count);
        for _ in 0..count {
            item(self, out);
        }
    }

    fn map(&mut self, out: &mut Vec<u8>, depth: usize) {
        let count = self.choose(6);
        Writer::new(out).map(count);
        for _ in 0..count {
            let key = self.word();
            word(key, out);
            self.value(out, depth - 1);
        }
    }

    /// Any value, of so many levels at most.
    pub fn value(&mut self, out: &mut Vec<u8>, depth: usize) {
        let choice = self.choose(if depth <= 1 { 12 } else { 18 });
        match choice {
            0 => out.push(0xf6),
            1 => out.push([0xf4, 0xf5, 0xf7, 0xf0][self.choose(4)]),
            2 | 3 => Writer::new(out).unsigned(self.choose(8) as u64),
            4 => Writer::new(out).unsigned(self.number()),
            5 => {
                out.push(0x3b);
                out.extend_from_slice(&self.number().to_be_bytes());
            }
            6 => Writer::new(out).float(FLOATS[self.choose(FLOATS.len())]),
            7 => Writer::new(out).float(f64::from_bits(self.number())),
            8 | 9 => {
                let name = self.word();
                word(name, out);
            }
            10 => {
                let count = self.choose(40);
                let bytes = self.take(count);
                Writer::new(out).bytes(bytes);
            }
            11 => {
                let text: String = self.number().to_string();
                out.push(0x60 | text.len().min(20) as u8);
                out.extend_from_slice(&text.as_bytes()[..text.len().min(20)]);
            }
            12 | 13 => self.map(out, depth),
            14 => {
                // Tuples and tags that nobody knows.
                out.extend_from_slice([&[0xd8, 128][..], &[0xd8, 37], &[0xc2]][self.choose(3)]);
                self.value(out, depth - 1);
            }
            15 => {
                out.push([0x9f, 0xbf][self.choose(2)]);
                for _ in 0..2 * self.choose(3) {
                    self.value(out, depth - 1);
                }
                out.push(0xff);
            }
            16 => self.array(out, |shaper, out| shaper.pair(out)),
            _ => self.array(out, |shaper, out| shaper.value(out, depth - 1)),
        }
    }
}

/// A name, as text if its length is odd and as bytes otherwise.
fn word(word: &str, out: &mut Vec<u8>) {
    let major = if word.len().is_multiple_of(2) {
        0x40
    } else {
        0x60
    };
    out.push(major | word.len().min(23) as u8);
    out.extend_from_slice(&word.as_bytes()[..word.len().min(23)]);
}
