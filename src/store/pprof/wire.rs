//! Splits a protobuf message into its fields without decoding or copying them: the first, bounded pass over a file of
//! unknown origin.
//!
//! Source: protobuf encoding guide, "Message structure". Groups (wire types 3 and 4) do not occur in pprof and are
//! refused.

use super::DecodeError;

/// A field's value; fixed-width ones do not occur in pprof and are passed over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of one message, in file order; ends after the first error.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), DecodeError> {
        let start = self.at;
        let broken = |problem| DecodeError::Wire {
            offset: start,
            problem,
        };
        let key = self.varint().ok_or(broken("a field's key is cut off"))?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint().ok_or(broken("a number is cut off"))?),
            1 => self.skip(8).ok_or(broken("a field is cut off"))?,
            2 => {
                let len = self.varint().ok_or(broken("a length is cut off"))?;
                let len = usize::try_from(len).map_err(|_| broken("a length is absurd"))?;
                Value::Bytes(self.take(len).ok_or(broken("a field is cut off"))?)
            }
            5 => self.skip(4).ok_or(broken("a field is cut off"))?,
            _ => return Err(broken("an unknown wire type")),
        };
        match key >> 3 {
            0 => Err(broken("field number 0")),
            number => Ok((number, value)),
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, len: usize) -> Option<Value<'a>> {
        self.take(len).map(|_| Value::Fixed)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

/// Where `part`, a slice of `whole`, begins in it.
pub(super) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The numbers of a repeated field's one occurrence, which may be packed or not.
pub(super) fn push_numbers(into: &mut Vec<i64>, value: Value<'_>) -> Option<()> {
    match value {
        Value::Varint(number) => into.push(number as i64),
        Value::Bytes(bytes) => {
            let mut fields = Fields::of(bytes);
            while fields.at < bytes.len() {
                into.push(fields.varint()? as i64);
            }
        }
        Value::Fixed => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_and_a_cut_one_is_named_by_its_offset() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4];
        let fields: Result<Vec<_>, _> = Fields::of(&bytes).collect();
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed),
        ];
        assert_eq!(fields.expect("well formed"), expected);
        let cut: Vec<_> = Fields::of(&bytes[..6]).collect();
        assert!(matches!(cut[1], Err(DecodeError::Wire { offset: 3, .. })));
        assert_eq!(cut.len(), 2);
        let endless = [0xff; 12];
        assert!(Fields::of(&endless).all(|field| field.is_err()));
    }
}
