//! The report as CSV, column by column as HAProxy 2.6 writes it.

use super::{
    columns::{COLUMNS, Value},
    report::{Proxy, Report},
};

/// Writes the header and one line for each row. Every line ends with a comma, and the header starts with `# `.
///
/// # Errors
/// Never for a writer into memory; the library's interface has them.
pub(super) fn render(report: &Report) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    for (index, column) in COLUMNS.iter().enumerate() {
        writer.write_field(if index == 0 { format!("# {}", column.name) } else { column.name.to_owned() })?;
    }
    end_line(&mut writer)?;
    for row in report.proxies.iter().flat_map(Proxy::rows) {
        for column in COLUMNS {
            writer.write_field(text(column.of(&row)))?;
        }
        end_line(&mut writer)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// An empty last field makes the comma at the end of the line.
fn end_line(writer: &mut csv::Writer<Vec<u8>>) -> Result<(), csv::Error> {
    writer.write_field("")?;
    writer.write_record(None::<&[u8]>)
}

fn text(value: Value) -> String {
    match value {
        Value::Empty => String::new(),
        Value::Number(number) => number.to_string(),
        Value::Ago(ago) => ago.map_or_else(|| "-1".to_owned(), |ago| ago.as_secs().to_string()),
        Value::Seconds(time) => time.as_secs().to_string(),
        Value::Millis(time) => time.as_millis().to_string(),
        Value::Text(text) => text.into_owned(),
    }
}
