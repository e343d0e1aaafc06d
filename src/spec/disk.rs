//! Reads the text of a spec file. Files that are not text, and pipes that would never end, are errors.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::base::error::Error;

/// The maximum size of a spec, in bytes: hundreds of times what a hundred clusters need.
const LARGEST: u64 = 1024 * 1024;

/// Reads a file; `named_by` is the flag or variable that specifies it, `None` for the default file.
///
/// # Errors
/// A usage error that names the file and says why it cannot be read.
pub(crate) fn read(directory: &Path, path: &Path, named_by: Option<&str>) -> Result<String, Error> {
    let by = named_by.unwrap_or("default");
    if path.as_os_str().is_empty() {
        return Err(Error::usage(format!("{by} specifies no file")).hint("specify a spec: -f kindmesh.yaml"));
    }
    let shown = path.display();
    let refuse = |why: String, hint: &str| Err(Error::usage(format!("cannot read {shown}: {why}")).hint(hint));
    let full = directory.join(path);
    let kind = match std::fs::metadata(&full) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let hint = format!("specified by {by}; relative paths are resolved in the working directory");
            return refuse("no such file".into(), &hint);
        }
        Err(error) => return refuse(error.to_string(), "specify a readable spec: -f kindmesh.yaml"),
    };
    if kind.is_dir() {
        return refuse("it is a directory".into(), "specify a file in it: -f DIRECTORY/kindmesh.yaml");
    }
    // A pipe that the shell created for this command has a writer; any other pipe may never have one.
    let of_shell =
        full.starts_with("/dev/fd") || full == Path::new("/dev/stdin") || full.starts_with("/proc/self/fd");
    if !(kind.is_file() || of_shell && kind.is_fifo()) {
        let what = match () {
            () if kind.is_fifo() => "a named pipe",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return refuse(format!("it is {what}, not a file"), "write the spec to a file, and specify that file");
    }
    let mut bytes = Vec::new();
    let opened = File::open(&full).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    if let Err(error) = opened {
        return refuse(error.to_string(), "specify a readable spec: -f kindmesh.yaml");
    }
    if bytes.len() as u64 > LARGEST {
        return refuse("it is larger than 1 MiB".into(), "a spec is about a page of YAML: check the path");
    }
    String::from_utf8(bytes).map_err(|error| {
        let (line, column) = place_of(error.as_bytes(), error.utf8_error().valid_up_to());
        Error::usage(format!("{shown}:{line}:{column}: invalid UTF-8")).hint("save the file as UTF-8")
    })
}

/// Returns the line and column of a byte, from 1; everything before it must be UTF-8.
fn place_of(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = String::from_utf8_lossy(&bytes[..at]);
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_invalid_byte_has_a_position() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("latin1.yaml"), b"name: a\n# \xc3\xbc\nname: \xe9").unwrap();
        let error = read(folder.path(), Path::new("latin1.yaml"), Some("-f")).unwrap_err();
        assert_eq!(error.message, "latin1.yaml:3:7: invalid UTF-8");
    }
}
