//! An aligned table for a person.

use console::{Alignment, measure_text_width, pad_str};

use super::Style;

/// The space between columns.
const GAP: &str = "   ";

/// Rows of cells. Each column is as wide as its widest cell. Cells may be styled.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with these column headings.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Creates a table without headings.
    pub fn headless() -> Self {
        Self::default()
    }

    /// Adds a row. It may be shorter than the others; line breaks in a cell become spaces.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(cells.into_iter().map(|cell| cell.into().replace('\n', " ")).collect());
        self
    }

    /// Returns the text, without a trailing newline; headings are bold.
    pub fn render(&self, style: Style) -> String {
        let header = self.header.iter().map(|cell| style.bold(cell)).collect::<Vec<_>>();
        let header = Some(&header).filter(|header| !header.is_empty());
        let lines: Vec<_> = header.into_iter().chain(&self.rows).collect();
        let mut widths: Vec<usize> = Vec::new();
        for cells in &lines {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(*cells) {
                *width = measure_text_width(cell).max(*width);
            }
        }
        let line = |cells: &Vec<String>| {
            let cells =
                cells.iter().zip(&widths).map(|(cell, width)| pad_str(cell, *width, Alignment::Left, None));
            cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_is_in_them() {
        let style = Style::colored();
        let mut table = Table::new(["LAYER", "CLUSTER", "", "DETAIL"]);
        table.row(["link", "cluster1", &style.green("✓"), "routes to 1 peer"]);
        table.row(["remote secrets", "", &style.red("✗"), "none\nin cluster2"]);
        table.row(["samples"]);
        insta::assert_snapshot!(table.render(Style::plain()).replace('\x1b', "^"), @r"
        LAYER            CLUSTER        DETAIL
        link             cluster1   ^[32m✓^[0m   routes to 1 peer
        remote secrets              ^[31m✗^[0m   none in cluster2
        samples
        ");
    }

    #[test]
    fn headings_are_optional() {
        let mut table = Table::headless();
        table.row(["network", "kindmesh-kindmesh"]).row(["subnet", "172.30.0.0/16"]);
        insta::assert_snapshot!(table.render(Style::colored()), @r"
        network   kindmesh-kindmesh
        subnet    172.30.0.0/16
        ");
    }
}
