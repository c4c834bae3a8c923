//! Order lines as a stream: CSV, plain or gzip, one order at a time.
//!
//! Reads as much of the file as the order at hand needs, so its size does not matter. The file has to
//! be sorted by `ordered_at`, the lines of an order stand together; columns are found by their
//! names, others are ignored.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use crate::event::Moment;

/// Largest quantity of a line that is taken for true.
const QUANTITY_MAX: i64 = 1_000_000;

/// Most lines that an order may have: bounds what is held of a file that never changes its order id.
const LINES_MAX: usize = 10_000;

/// An order as the source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOrder {
    /// When it was placed, milliseconds since the epoch.
    pub ordered_at_ms: i64,
    /// The source's number of the order.
    pub order_id: String,
    /// Who ordered.
    pub customer_id: String,
    /// Where.
    pub store_id: String,
    /// What, in the file's order.
    pub lines: Vec<SourceLine>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// The source's number of the product.
    pub sku: String,
    /// Its department.
    pub department: String,
    /// Pieces, at least 1.
    pub quantity: i64,
}

/// Why order lines cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OrderLinesError {
    /// The file cannot be read, or is not CSV.
    #[error("order lines: {0}")]
    Read(#[from] csv::Error),
    /// The stream ends at once or cannot be read.
    #[error("order lines: {0}")]
    Io(#[from] std::io::Error),
    /// A column is missing.
    #[error("order lines: the header has no column {0:?}")]
    NoColumn(&'static str),
    /// A field makes no sense.
    #[error("order lines, line {line}: {column} is {found:?}, expected {expected}")]
    Field {
        /// Line of the file, from 1.
        line: u64,
        /// Name of the column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// The file is not sorted by time.
    #[error(
        "order lines, line {line}: ordered at {found}, which is before {previous}; sort the file by ordered_at"
    )]
    NotSorted {
        /// Line of the file, from 1.
        line: u64,
        /// The order's time.
        found: Moment,
        /// The time of the order before it.
        previous: Moment,
    },
    /// More lines than an order can have.
    #[error("order lines, line {line}: order {order_id} has more than {LINES_MAX} lines")]
    TooManyLines {
        /// Line of the file, from 1.
        line: u64,
        /// The order.
        order_id: String,
    },
}

#[derive(Clone, Copy, Debug)]
struct Columns {
    ordered_at: usize,
    order_id: usize,
    customer_id: usize,
    store_id: usize,
    sku: usize,
    department: usize,
    quantity: usize,
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, OrderLinesError> {
        let column = |name: &'static str| {
            header
                .iter()
                .position(|column| column.trim() == name)
                .ok_or(OrderLinesError::NoColumn(name))
        };
        Ok(Self {
            ordered_at: column("ordered_at")?,
            order_id: column("order_id")?,
            customer_id: column("customer_id")?,
            store_id: column("store_id")?,
            sku: column("sku")?,
            department: column("department")?,
            quantity: column("quantity")?,
        })
    }
}

/// The orders of a file, in its order.
pub struct OrderLines {
    csv: csv::Reader<Box<dyn Read + Send>>,
    columns: Columns,
    record: StringRecord,
    /// The first line of the next order, already read.
    ahead: Option<SourceOrder>,
    previous_ms: i64,
    ended: bool,
}

impl fmt::Debug for OrderLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderLines")
            .field("position", self.csv.position())
            .finish_non_exhaustive()
    }
}

impl OrderLines {
    /// Reads from `reader`; gzip is recognised by its first bytes.
    pub fn new(reader: impl Read + Send + 'static) -> Result<Self, OrderLinesError> {
        let mut reader = BufReader::with_capacity(64 * 1024, reader);
        let gzip = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn Read + Send> = if gzip {
            Box::new(MultiGzDecoder::new(reader))
        } else {
            Box::new(reader)
        };
        let mut csv = csv::Reader::from_reader(reader);
        let columns = Columns::find(csv.headers()?)?;
        Ok(Self {
            csv,
            columns,
            record: StringRecord::new(),
            ahead: None,
            previous_ms: i64::MIN,
            ended: false,
        })
    }

    /// One line of the file, as an order of one line.
    fn read_line(&mut self) -> Result<Option<SourceOrder>, OrderLinesError> {
        if !self.csv.read_record(&mut self.record)? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let text = |index: usize| self.record.get(index).unwrap_or_default().trim();
        let wrong = |column, index, expected| OrderLinesError::Field {
            line,
            column,
            found: text(index).to_owned(),
            expected,
        };
        let columns = self.columns;
        let ordered_at = Moment::parse(text(columns.ordered_at))
            .ok_or_else(|| wrong("ordered_at", columns.ordered_at, "a date and time"))?;
        let quantity = text(columns.quantity)
            .parse()
            .ok()
            .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
            .ok_or_else(|| wrong("quantity", columns.quantity, "a number from 1 to 1000000"))?;
        for (column, index) in [("order_id", columns.order_id), ("sku", columns.sku)] {
            if text(index).is_empty() {
                return Err(wrong(column, index, "something"));
            }
        }
        if ordered_at.0 < self.previous_ms {
            let previous = Moment(self.previous_ms);
            return Err(OrderLinesError::NotSorted {
                line,
                found: ordered_at,
                previous,
            });
        }
        self.previous_ms = ordered_at.0;
        Ok(Some(SourceOrder {
            ordered_at_ms: ordered_at.0,
            order_id: text(columns.order_id).to_owned(),
            customer_id: text(columns.customer_id).to_owned(),
            store_id: text(columns.store_id).to_owned(),
            lines: vec![SourceLine {
                sku: text(columns.sku).to_owned(),
                department: text(columns.department).to_owned(),
                quantity,
            }],
        }))
    }

    fn read_order(&mut self) -> Result<Option<SourceOrder>, OrderLinesError> {
        let first = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.read_line()?,
        };
        let Some(mut order) = first else {
            return Ok(None);
        };
        while let Some(mut next) = self.read_line()? {
            if next.order_id != order.order_id {
                self.ahead = Some(next);
                break;
            }
            if order.lines.len() == LINES_MAX {
                let line = self.csv.position().line();
                return Err(OrderLinesError::TooManyLines {
                    line,
                    order_id: order.order_id,
                });
            }
            order.lines.append(&mut next.lines);
        }
        Ok(Some(order))
    }
}

impl Iterator for OrderLines {
    type Item = Result<SourceOrder, OrderLinesError>;

    /// The next order. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let order = self.read_order().transpose();
        self.ended = !matches!(order, Some(Ok(_)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "ordered_at,order_id,customer_id,store_id,sku,department,quantity,line_total\n";

    fn read(lines: &str) -> Vec<Result<SourceOrder, OrderLinesError>> {
        let text = format!("{HEADER}{lines}");
        OrderLines::new(std::io::Cursor::new(text))
            .expect("a header")
            .collect()
    }

    #[test]
    fn lines_of_an_order_are_put_together() {
        let orders = read(
            "2017-01-01T18:24:46Z,1,c,367,10,DELI,2,7.38\n2017-01-01T18:24:46Z,1,c,367,11,DELI,1,1\n\
             2017-01-01T18:24:47Z,2,c,367,10,DELI,1,1\n",
        );
        let lines: Vec<usize> = orders
            .iter()
            .map(|order| order.as_ref().expect("an order").lines.len())
            .collect();
        assert_eq!(lines, [2, 1]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = |lines: &str| {
            let last = read(lines).pop().expect("something");
            last.expect_err("an error").to_string()
        };
        let quantity = error("2017-01-01T18:24:46Z,1,c,367,10,DELI,-2,7.38\n");
        assert!(
            quantity.contains("line 2: quantity is \"-2\""),
            "{quantity}"
        );
        let unsorted = error(
            "2017-01-02T00:00:00Z,1,c,367,10,DELI,2,1\n2017-01-01T00:00:00Z,2,c,367,10,DELI,2,1\n",
        );
        assert!(
            unsorted.contains("line 3") && unsorted.contains("sort the file"),
            "{unsorted}"
        );
        let column = OrderLines::new(std::io::Cursor::new("a,b\n")).expect_err("no columns");
        assert!(column.to_string().contains("ordered_at"), "{column}");
    }

    #[test]
    fn after_an_error_there_is_nothing_more() {
        assert_eq!(read("x\ny\n").len(), 1);
    }
}
