//! Rows in and out of the tables, as one array for each column.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use conveyor_processors::rows::Change;
use conveyor_processors::{ColumnType, KeyPart, Row, RowKey, Table, Value};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row as SqlRow};

use super::connection::Failure;
use super::{statements, text};

/// Rows of one statement at most: what a message holds stays in the tens of megabytes.
const ROWS_PER_STATEMENT: usize = 4_096;

/// One column of several rows.
type Column<'r> = Box<dyn ToSql + Sync + Send + 'r>;

/// A statement with its parameters.
pub(super) struct Statement<'r> {
    sql: String,
    parameters: Vec<(Column<'r>, Type)>,
}

impl Statement<'_> {
    /// Sends it; the answer's rows are left aside.
    pub(super) async fn execute(&self, client: &Client) -> Result<(), Failure> {
        client.execute_typed(&self.sql, &self.parameters()).await?;
        Ok(())
    }

    async fn query(&self, client: &Client) -> Result<Vec<SqlRow>, Failure> {
        Ok(client.query_typed(&self.sql, &self.parameters()).await?)
    }

    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (column, column_type) in &self.parameters {
            let column: &(dyn ToSql + Sync) = &**column;
            parameters.push((column, column_type.clone()));
        }
        parameters
    }
}

/// The rows of some keys of one table.
pub(super) async fn load(
    client: &Client,
    schema: &str,
    table: &Arc<Table>,
    keys: &[&RowKey],
) -> Result<Vec<Row>, Failure> {
    let statement = Statement {
        sql: statements::select_by_keys(schema, table),
        parameters: key_columns(table, keys),
    };
    let found = statement.query(client).await?;
    found.iter().map(|row| read_row(table, row)).collect()
}

/// All rows of a table.
pub(super) async fn load_all(
    client: &Client,
    schema: &str,
    table: &Arc<Table>,
) -> Result<Vec<Row>, Failure> {
    let statement = Statement {
        sql: statements::select_all(schema, table),
        parameters: Vec::new(),
    };
    let found = statement.query(client).await?;
    found.iter().map(|row| read_row(table, row)).collect()
}

/// What writes some changes of one table.
pub(super) fn writes<'r>(
    schema: &str,
    table: &Table,
    changes: &[&'r Change],
) -> Vec<Statement<'r>> {
    let mut puts = Vec::new();
    let mut deletes = Vec::new();
    for change in changes {
        match change {
            Change::Put(row) => puts.push(row),
            Change::Delete(key) => deletes.push(key),
        }
    }
    let puts = puts.chunks(ROWS_PER_STATEMENT).map(|rows| Statement {
        sql: statements::upsert(schema, table),
        parameters: value_columns(table, rows),
    });
    let deletes = deletes.chunks(ROWS_PER_STATEMENT).map(|keys| Statement {
        sql: statements::delete(schema, table),
        parameters: key_columns(table, keys),
    });
    puts.chain(deletes).collect()
}

fn key_columns<'r>(table: &Table, keys: &[&'r RowKey]) -> Vec<(Column<'r>, Type)> {
    let columns = table.key_columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let parts = keys.iter().map(|key| &key.parts[index]);
            if column.column_type == ColumnType::Text {
                let texts = parts.map(|part| match part {
                    KeyPart::Text(text) => Some(text::to_stored(text)),
                    KeyPart::Integer(_) => None,
                });
                return array(texts, Type::TEXT_ARRAY);
            }
            let numbers = parts.map(|part| match part {
                KeyPart::Integer(number) => Some(*number),
                KeyPart::Text(_) => None,
            });
            array(numbers, Type::INT8_ARRAY)
        })
        .collect()
}

fn value_columns<'r>(table: &Table, rows: &[&'r Row]) -> Vec<(Column<'r>, Type)> {
    let columns = table.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let values = rows.iter().map(move |row| &row.values()[index]);
            value_column(column.column_type, values)
        })
        .collect()
}

/// One column of values that fit it; what does not fit cannot be in a row.
fn value_column<'r>(
    column_type: ColumnType,
    values: impl Iterator<Item = &'r Value>,
) -> (Column<'r>, Type) {
    macro_rules! column {
        ($type:expr, $pattern:pat => $value:expr) => {
            array(
                values.map(|value| match value {
                    $pattern => Some($value),
                    _ => None,
                }),
                $type,
            )
        };
    }
    match column_type {
        ColumnType::Text => column!(Type::TEXT_ARRAY, Value::Text(text) => text::to_stored(text)),
        ColumnType::Integer => column!(Type::INT8_ARRAY, Value::Integer(number) => *number),
        ColumnType::Real => column!(Type::FLOAT8_ARRAY, Value::Real(number) => *number),
        ColumnType::Boolean => column!(Type::BOOL_ARRAY, Value::Boolean(truth) => *truth),
        ColumnType::Timestamp => {
            column!(Type::TIMESTAMPTZ_ARRAY, Value::Timestamp(ms) => Moment(*ms))
        }
        ColumnType::Json => {
            column!(Type::TEXT_ARRAY, Value::Json(json) => Cow::<str>::Owned(json.to_string()))
        }
    }
}

fn array<'r, T: ToSql + Sync + Send + 'r>(
    cells: impl Iterator<Item = Option<T>>,
    array_type: Type,
) -> (Column<'r>, Type) {
    (Box::new(cells.collect::<Vec<_>>()), array_type)
}

fn read_row(table: &Arc<Table>, row: &SqlRow) -> Result<Row, Failure> {
    let mut values = Vec::with_capacity(table.columns().len());
    for (index, column) in table.columns().iter().enumerate() {
        let value = read_value(column.column_type, row, index).map_err(|reason| {
            Failure::Schema(format!(
                "a row of {} has no {} in {}: {reason}; somebody else has changed the table: \
                 build it anew in another schema (schema=NAME in the --store address)",
                table.name(),
                column.column_type,
                column.name
            ))
        })?;
        values.push(value);
    }
    Row::from_values(table, values).ok_or_else(|| {
        Failure::Schema(format!(
            "a row of {} has no key; somebody else has changed the table",
            table.name()
        ))
    })
}

fn read_value(column_type: ColumnType, row: &SqlRow, index: usize) -> Result<Value, String> {
    fn cell<'r, T: FromSql<'r>>(row: &'r SqlRow, index: usize) -> Result<Option<T>, String> {
        row.try_get(index).map_err(|error| error.to_string())
    }
    let value = match column_type {
        ColumnType::Text => {
            cell::<String>(row, index)?.map(|stored| Value::Text(text::from_stored(stored)))
        }
        ColumnType::Integer => cell(row, index)?.map(Value::Integer),
        ColumnType::Real => cell(row, index)?.map(Value::Real),
        ColumnType::Boolean => cell(row, index)?.map(Value::Boolean),
        ColumnType::Timestamp => cell::<Moment>(row, index)?.map(|m| Value::Timestamp(m.0)),
        ColumnType::Json => match cell::<&str>(row, index)? {
            Some(json) => Some(Value::Json(
                serde_json::from_str(json).map_err(|error| error.to_string())?,
            )),
            None => None,
        },
    };
    Ok(value.unwrap_or_default())
}

/// A `timestamptz`, as milliseconds since the Unix epoch. `PostgreSQL` counts microseconds since
/// 2000 and knows the years from 4713 before our era to 294276; what lies outside is its `-infinity`
/// or `infinity`, and comes back as the least or greatest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment(i64);

impl Moment {
    /// 2000-01-01T00:00:00Z.
    const EPOCH_MS: i64 = 946_684_800_000;
    /// 4714-11-24 BC, 00:00:00 UTC.
    const LEAST_US: i64 = -211_813_488_000_000_000;
    /// The first microsecond of the year 294277.
    const END_US: i64 = 9_223_371_331_200_000_000;

    fn to_stored(self) -> i64 {
        let stored = self
            .0
            .checked_sub(Self::EPOCH_MS)
            .and_then(|ms| ms.checked_mul(1_000));
        match stored {
            Some(us) if (Self::LEAST_US..Self::END_US).contains(&us) => us,
            _ if self.0 < 0 => i64::MIN,
            _ => i64::MAX,
        }
    }

    fn from_stored(us: i64) -> Self {
        match us {
            i64::MIN | i64::MAX => Self(us),
            us => Self(us.div_euclid(1_000) + Self::EPOCH_MS),
        }
    }
}

impl ToSql for Moment {
    fn to_sql(
        &self,
        sql_type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.to_stored().to_sql(sql_type, out)
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Moment {
    fn from_sql(
        sql_type: &Type,
        raw: &'r [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::from_stored(i64::from_sql(sql_type, raw)?))
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn moments_that_postgres_knows_come_back(ms in -210_866_803_200_000i64..9_224_318_016_000_000) {
            prop_assert_eq!(Moment::from_stored(Moment(ms).to_stored()), Moment(ms));
        }
    }

    #[test]
    fn others_are_infinite() {
        assert_eq!(Moment(i64::MAX).to_stored(), i64::MAX);
        assert_eq!(Moment(i64::MIN).to_stored(), i64::MIN);
        assert_eq!(Moment(9_224_318_016_000_000).to_stored(), i64::MAX);
        assert_eq!(Moment(0).to_stored(), -Moment::EPOCH_MS * 1_000);
    }
}
