//! A number that may change from epoch to epoch.

use std::f64::consts::PI;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::refuse;

/// A value for each epoch: in TOML a plain number, or a table that names its shape.
///
/// Epochs count over the whole of training, so that the value of one epoch does not depend on which others are made.
///
/// ```
/// use entromask_policy::Schedule;
/// #[derive(serde::Deserialize)]
/// struct Config { share: Schedule }
/// let text = r#"{"share": {"shape": "linear", "from": 1.0, "to": 0.0, "epochs": 5}}"#;
/// let config: Config = serde_json::from_str(text).unwrap();
/// assert_eq!([0, 1, 4, 9].map(|epoch| config.share.at(epoch)), [1.0, 0.75, 0.0, 0.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// The same value in every epoch.
    Constant(f64),
    /// A value that changes.
    Changing(Shape),
}

/// How a value changes over epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// On a straight line.
    Linear {
        /// Value of epoch 0.
        from: f64,
        /// Value of epoch `epochs` − 1 and of all later ones.
        to: f64,
        /// Epochs from the first value to the last one, both included; at least 2.
        epochs: u16,
    },
    /// On half a cosine: slow, fast, slow.
    Cosine {
        /// Value of epoch 0.
        from: f64,
        /// Value of epoch `epochs` − 1 and of all later ones.
        to: f64,
        /// Epochs from the first value to the last one, both included; at least 2.
        epochs: u16,
    },
    /// In steps: each value for `every` epochs, the last one for ever.
    Step {
        /// The values in their order.
        values: Vec<f64>,
        /// Epochs for which each value holds; at least 1.
        every: u16,
    },
}

impl Schedule {
    /// The value in `epoch`.
    pub fn at(&self, epoch: u16) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Changing(shape) => shape.at(epoch),
        }
    }

    /// Checks the shape, and that all values are `allowed`.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class usage that names `key`, the value and what is `wanted`.
    pub fn validate(&self, key: &str, wanted: &str, allowed: impl Fn(f64) -> bool) -> anyhow::Result<()> {
        let values = match self {
            Self::Constant(value) => vec![*value],
            Self::Changing(shape) => shape.values(key)?,
        };
        match values.into_iter().find(|value| !allowed(*value)) {
            Some(value) => Err(refuse(key, value, wanted)),
            None => Ok(()),
        }
    }
}

impl Shape {
    fn at(&self, epoch: u16) -> f64 {
        match *self {
            Self::Linear { from, to, epochs } => between(from, to, done(epoch, epochs)),
            Self::Cosine { from, to, epochs } => {
                between(from, to, (1.0 - (PI * done(epoch, epochs)).cos()) / 2.0)
            }
            Self::Step { ref values, every } => {
                values[usize::from(epoch / every.max(1)).min(values.len() - 1)]
            }
        }
    }

    /// The values between which all others lie.
    fn values(&self, key: &str) -> anyhow::Result<Vec<f64>> {
        match *self {
            Self::Linear { from, to, epochs } | Self::Cosine { from, to, epochs } => {
                if epochs < 2 {
                    return Err(refuse(
                        &format!("{key}.epochs"),
                        epochs,
                        "at least 2, from the first value to the last",
                    ));
                }
                Ok(vec![from, to])
            }
            Self::Step { ref values, every } => {
                if values.is_empty() || every == 0 {
                    let found = format!("{} values, every {every} epochs", values.len());
                    return Err(refuse(key, found, "at least one value and at least every 1 epoch"));
                }
                Ok(values.clone())
            }
        }
    }
}

/// How much of the way is done in `epoch`, from 0 to 1.
fn done(epoch: u16, epochs: u16) -> f64 {
    (f64::from(epoch) / f64::from(epochs.max(2) - 1)).min(1.0)
}

/// The last value itself at the end: another one, however near, rounds budgets of a half down.
fn between(from: f64, to: f64, share: f64) -> f64 {
    if share >= 1.0 { to } else { from + (to - from) * share }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

/// A constant is a plain number, so that configurations without schedules keep their keys.
impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant(value) => serializer.serialize_f64(*value),
            Self::Changing(shape) => shape.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrShape)
    }
}

struct NumberOrShape;

impl<'de> Visitor<'de> for NumberOrShape {
    type Value = Schedule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a table like { shape = \"linear\", from = 1.0, to = 0.0, epochs = 10 }")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Schedule, E> {
        Ok(Schedule::Constant(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Schedule, E> {
        Ok(Schedule::Constant(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Schedule, E> {
        Ok(Schedule::Constant(value as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
        Shape::deserialize(MapAccessDeserializer::new(map)).map(Schedule::Changing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Schedule {
        serde_json::from_str(text).expect(text)
    }

    fn close(found: [f64; 5], wanted: [f64; 5]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn values_follow_their_shape() {
        let at = |text| [0, 1, 2, 4, 100].map(|epoch| parsed(text).at(epoch));
        close(at("2"), [2.0; 5]);
        close(at(r#"{"shape":"linear","from":1,"to":0,"epochs":5}"#), [1.0, 0.75, 0.5, 0.0, 0.0]);
        let early = f64::midpoint(1.0, (PI / 4.0).cos());
        close(at(r#"{"shape":"cosine","from":1,"to":0,"epochs":5}"#), [1.0, early, 0.5, 0.0, 0.0]);
        close(at(r#"{"shape":"step","values":[0.3,0.2,0.1],"every":2}"#), [0.3, 0.3, 0.2, 0.1, 0.1]);
    }

    /// 15 tokens at 0.1 are a budget of 2, and at 0.09999999999999998 of 1.
    #[test]
    fn the_last_value_is_reached_to_the_last_digit() {
        for (from, to) in [(0.7, 0.1), (0.15, 0.3), (0.9, 0.35)] {
            for shape in ["linear", "cosine"] {
                let text = format!(r#"{{"shape":"{shape}","from":{from},"to":{to},"epochs":4}}"#);
                let found = [3, 4, 99].map(|epoch| parsed(&text).at(epoch).to_bits());
                assert_eq!(found, [f64::to_bits(to); 3], "{text}");
            }
        }
    }

    #[test]
    fn a_constant_is_written_as_a_number_and_a_shape_as_it_was_read() {
        assert_eq!(serde_json::to_string(&parsed("1")).expect("a number"), "1.0");
        let linear = r#"{"shape":"linear","from":1.0,"to":0.0,"epochs":5}"#;
        assert_eq!(serde_json::to_string(&parsed(linear)).expect("a table"), linear);
    }

    #[test]
    fn mistakes_name_the_key_and_the_value() {
        let error =
            |text: &str| parsed(text).validate("rate", "a share", |v| v > 0.0).expect_err(text).to_string();
        assert!(error("0").contains("rate = 0; give a share"));
        assert!(error(r#"{"shape":"linear","from":1,"to":-0.5,"epochs":5}"#).contains("rate = -0.5"));
        assert!(error(r#"{"shape":"linear","from":1,"to":1,"epochs":1}"#).contains("rate.epochs = 1"));
        assert!(error(r#"{"shape":"step","values":[],"every":1}"#).contains("0 values"));
        let unknown = serde_json::from_str::<Schedule>(r#"{"shape":"square"}"#).expect_err("unknown");
        assert!(unknown.to_string().contains("`linear`, `cosine`, `step`"), "{unknown}");
    }
}
