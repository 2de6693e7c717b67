//! CSV whose columns are found by name, and whose errors name line and column.

use csv::{ReaderBuilder, StringRecord};

use super::ContentError;

/// Longer than any header.
const MAX_COLUMNS: usize = 1_000;

/// The rows of a CSV text, one at a time.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    reader: csv::Reader<&'a [u8]>,
    columns: Vec<String>,
    row: StringRecord,
}

impl<'a> Table<'a> {
    /// With a header in the first line, or with `columns` where it has none.
    pub fn new(
        text: &'a str,
        delimiter: u8,
        columns: Option<Vec<String>>,
    ) -> Result<Table<'a>, ContentError> {
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let columns = match columns {
            Some(columns) => columns,
            None => {
                let mut head = StringRecord::new();
                reader.read_record(&mut head).map_err(|e| fault(&e))?;
                let names = head.iter().map(|name| name.trim().to_owned());
                names.take(MAX_COLUMNS).collect()
            }
        };
        Ok(Table {
            reader,
            columns,
            row: StringRecord::new(),
        })
    }

    /// Where the first of the names stands that is there.
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        names
            .iter()
            .find_map(|name| self.columns.iter().position(|column| column == name))
    }

    pub fn column(&self, names: &[&str]) -> Result<usize, ContentError> {
        self.find(names).ok_or_else(|| {
            let name = names.first().unwrap_or(&"");
            ContentError::line(1, format!("no column is called `{name}`"))
        })
    }

    /// Goes to the next row that is not empty; `false` after the last. A row with fewer fields than columns was cut off.
    pub fn advance(&mut self) -> Result<bool, ContentError> {
        loop {
            let more = self
                .reader
                .read_record(&mut self.row)
                .map_err(|e| fault(&e))?;
            if !more {
                return Ok(false);
            }
            let blank = self.row.len() == 1 && self.row.get(0).is_some_and(|f| f.trim().is_empty());
            if blank {
                continue;
            }
            if self.row.len() < self.columns.len() {
                return Err(self.fault(format!(
                    "{} fields, and there are {} columns; the last that is there is `{}`",
                    self.row.len(),
                    self.columns.len(),
                    self.columns[self.row.len().saturating_sub(1)],
                )));
            }
            return Ok(true);
        }
    }

    /// Starts from 1.
    pub fn line(&self) -> usize {
        self.row.position().map_or(1, |at| at.line() as usize)
    }

    pub fn text(&self, column: usize) -> &str {
        self.row.get(column).unwrap_or("").trim()
    }

    pub fn number(&self, column: usize) -> Result<f64, ContentError> {
        let parsed = self.text(column).parse().ok();
        let sensible = parsed.filter(|n: &f64| n.is_finite() && *n >= 0.0);
        sensible.ok_or_else(|| self.fault_at(column, "is no number"))
    }

    /// A number, or nothing where the field is empty or says `N/A`.
    pub fn number_if_any(&self, column: Option<usize>) -> Result<Option<f64>, ContentError> {
        match column {
            Some(column) if !matches!(self.text(column), "" | "N/A") => {
                self.number(column).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub fn fault_at(&self, column: usize, message: &str) -> ContentError {
        let name = self.columns.get(column).map_or("?", String::as_str);
        self.fault(format!("column {} (`{name}`) {message}", column + 1))
    }

    pub fn fault(&self, message: String) -> ContentError {
        ContentError::line(self.line(), message)
    }
}

fn fault(error: &csv::Error) -> ContentError {
    let line = error.position().map_or(1, |at| at.line() as usize);
    ContentError::line(line, "is no CSV")
}

/// The fields of one line.
pub(crate) fn fields(line: &str, delimiter: u8) -> Vec<String> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .from_reader(line.as_bytes());
    let mut record = StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => record
            .iter()
            .take(MAX_COLUMNS)
            .map(|field| field.trim().to_owned())
            .collect(),
        _ => Vec::new(),
    }
}
