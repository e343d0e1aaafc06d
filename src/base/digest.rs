//! Digests in hexadecimal.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Returns the bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the SHA-256 of all content, in hexadecimal. Blocks.
///
/// # Errors
/// The reader's.
pub fn of(mut content: impl Read) -> io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
