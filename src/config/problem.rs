//! What is wrong with a configuration, all of it.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, counted from 1; `None` when the problem is on the command line or in no one place.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of the lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file, as the operator named it.
    pub file: Option<String>,
    /// At least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, message }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match (&self.file, line) {
                (Some(file), Some(line)) => write!(f, "{file}:{line}: {message}")?,
                (Some(file), None) => write!(f, "{file}: {message}")?,
                (None, _) => write!(f, "{message}")?,
            }
        }
        Ok(())
    }
}
