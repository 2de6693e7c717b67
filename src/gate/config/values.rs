//! Figures and names that are checked where they are read, so that an error has their place.

use serde::Deserialize;

use super::super::Edition;

/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

/// Above 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Positive(pub f64);

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct NonNegative(pub f64);

/// How much something counts, relative to others.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Weight(pub f64);

impl Default for Weight {
    fn default() -> Self {
        Weight(1.0)
    }
}

/// Not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub String);

/// A weight beyond this is a mistake, and could make a sum infinite.
const MAX_WEIGHT: f64 = 1e6;

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Share(value)),
            false => Err(format!("{value} is not a share from 0 to 1")),
        }
    }
}

impl TryFrom<f64> for Positive {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value.is_finite() && value > 0.0 {
            true => Ok(Positive(value)),
            false => Err(format!("{value} is not above 0")),
        }
    }
}

impl TryFrom<f64> for NonNegative {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value.is_finite() && value >= 0.0 {
            true => Ok(NonNegative(value)),
            false => Err(format!("{value} is below 0")),
        }
    }
}

impl TryFrom<f64> for Weight {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match (0.0..=MAX_WEIGHT).contains(&value) {
            true => Ok(Weight(value)),
            false => Err(format!("{value} is not a weight from 0 to {MAX_WEIGHT}")),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(value: String) -> Result<Self, String> {
        match value.trim().is_empty() {
            true => Err("it is empty".into()),
            false => Ok(Name(value)),
        }
    }
}

impl<'de> Deserialize<'de> for Edition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("edition {number} is neither 14 nor 18"));
        Edition::of(number).ok_or_else(unknown)
    }
}
