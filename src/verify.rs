//! Claims about the mesh, each tried on the running environment, each with evidence, each able to fail.

mod verdict;

pub use verdict::{Status, Subject, SubjectCluster, Verdict, Verdicts};
