//! A place in a JSON document that knows its own path, so that every error names the field.

use serde_json::Value;

use super::ContentError;

static ABSENT: Value = Value::Null;

const NO_NUMBER: &str = "is no number of 0 or more";
const MISSING: &str = "is missing";

#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Field<'a> {
    pub fn root(value: &'a Value) -> Field<'a> {
        Field {
            value,
            path: String::new(),
        }
    }

    /// The member `name`; one that is not there is absent, not an error.
    pub fn at(&self, name: &str) -> Field<'a> {
        let path = match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        };
        Field {
            value: self.value.get(name).unwrap_or(&ABSENT),
            path,
        }
    }

    /// The first of the members that is there, else the first absent.
    pub fn any(&self, names: &[&str]) -> Field<'a> {
        let present = names.iter().find(|name| !self.at(name).is_absent());
        self.at(present.or(names.first()).unwrap_or(&""))
    }

    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    pub fn fault(&self, message: &'static str) -> ContentError {
        ContentError::figure(&self.path, message)
    }

    /// The value, or that it is missing.
    pub fn required<T>(&self, found: Result<Option<T>, ContentError>) -> Result<T, ContentError> {
        found?.ok_or_else(|| self.fault(MISSING))
    }

    pub fn number(&self) -> Result<Option<f64>, ContentError> {
        match self.value {
            Value::Null => Ok(None),
            value => match value.as_f64().filter(|n| n.is_finite() && *n >= 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(self.fault(NO_NUMBER)),
            },
        }
    }

    /// A number of either sign.
    pub fn any_number(&self) -> Result<Option<f64>, ContentError> {
        match self.value.as_f64().filter(|n| n.is_finite()) {
            Some(number) => Ok(Some(number)),
            None if self.is_absent() => Ok(None),
            None => Err(self.fault("is no number")),
        }
    }

    /// A whole number; tools in JavaScript and Go write some as `3.0`.
    pub fn count(&self) -> Result<Option<u64>, ContentError> {
        match self.number()? {
            Some(n) if n.fract() == 0.0 && n < u64::MAX as f64 => Ok(Some(n as u64)),
            Some(_) => Err(self.fault("is no whole number")),
            None => Ok(None),
        }
    }

    pub fn text(&self) -> Result<Option<String>, ContentError> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(self.fault("is no text")),
        }
    }

    /// The members of an object; none when it is absent.
    pub fn members(&self) -> Result<Vec<(&'a str, Field<'a>)>, ContentError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => Ok(map
                .iter()
                .map(|(name, _)| (name.as_str(), self.at(name)))
                .collect()),
            _ => Err(self.fault("is no object")),
        }
    }

    /// The items of an array; none when it is absent.
    pub fn items(&self) -> Result<Vec<Field<'a>>, ContentError> {
        let item = |(ix, value): (usize, &'a Value)| Field {
            value,
            path: format!("{}[{ix}]", self.path),
        };
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => Ok(items.iter().enumerate().map(item).collect()),
            _ => Err(self.fault("is no array")),
        }
    }
}
