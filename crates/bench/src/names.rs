//! The names of work units: 16 hexadecimal digits that stand for a number, in order or shuffled.
//!
//! A name can be read back to its number, so that the ledger needs one byte for each unit.

use clap::ValueEnum;

/// Bytes of a name.
pub(super) const NAME_BYTES: usize = 16;

/// A work unit's name.
pub(super) type UnitName = [u8; NAME_BYTES];

/// In which order names come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Names {
    /// Each name is behind all earlier ones
    Ordered,
    /// Each name is anywhere among the others; the same ones in each run
    Random,
}

impl Names {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Random => "random",
        }
    }

    /// The name of the unit with this number.
    pub(super) fn name(self, number: u64) -> UnitName {
        hex(match self {
            Self::Ordered => number,
            Self::Random => shuffle(number),
        })
    }

    /// The number of the unit with this name, if it is a name.
    pub(super) fn number(self, name: &[u8]) -> Option<u64> {
        if name.len() != NAME_BYTES {
            return None;
        }
        let mut value = 0;
        for &digit in name {
            value = value << 4 | u64::from(digit_value(digit)?);
        }
        Some(match self {
            Self::Ordered => value,
            Self::Random => unshuffle(value),
        })
    }

    /// A name with about half of the first `count` names before it, or none if there would not be
    /// `behind` names from it on.
    pub(super) fn middle(self, count: u64, behind: u64) -> UnitName {
        hex(match self {
            // Half of the random names are, by chance, some too few.
            _ if count / 2 < behind + behind / 10 => 0,
            Self::Ordered => count / 2,
            Self::Random => 1 << 63,
        })
    }
}

fn hex(value: u64) -> UnitName {
    let mut name = [0; NAME_BYTES];
    for (place, digit) in name.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * place) & 0xf) as usize];
    }
    name
}

fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The finalizer of a common hash (MurmurHash3, with shifts of 32): one to one, and its neighbours
/// go far apart.
fn shuffle(mut value: u64) -> u64 {
    for factor in FACTORS {
        value = (value ^ value >> 32).wrapping_mul(factor);
    }
    value ^ value >> 32
}

fn unshuffle(mut value: u64) -> u64 {
    for factor in FACTORS.into_iter().rev() {
        value = (value ^ value >> 32).wrapping_mul(inverse(factor));
    }
    value ^ value >> 32
}

const FACTORS: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// What undoes the multiplication with an odd number: each round doubles the right bits, from three.
const fn inverse(factor: u64) -> u64 {
    let mut inverse = factor;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_read_back_to_their_numbers(number: u64) {
            for names in [Names::Ordered, Names::Random] {
                prop_assert_eq!(names.number(&names.name(number)), Some(number));
            }
        }
    }

    #[test]
    fn ordered_names_ascend_and_random_ones_do_not() {
        let ascend = |names: Names| (0..1000).all(|i| names.name(i) < names.name(i + 1));
        assert!(ascend(Names::Ordered));
        assert!(!ascend(Names::Random));
        let middle = Names::Random.middle(1000, 400);
        let before = (0..1000)
            .filter(|&i| Names::Random.name(i) < middle)
            .count();
        assert!((400..600).contains(&before), "{before}");
        assert_eq!(Names::Ordered.middle(1000, 400), Names::Ordered.name(500));
        assert_eq!(Names::Ordered.middle(1000, 1000), Names::Ordered.name(0));
    }

    #[test]
    fn other_names_have_no_number() {
        for name in [&b"x"[..], b"000000000000000G", b"00000000000000000"] {
            assert_eq!(Names::Ordered.number(name), None);
        }
    }
}
