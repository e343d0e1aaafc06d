//! Reads a file as a stream.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Reads a file from its start, independent of other readers: the file's own position is not used.
pub fn read(archive: Arc<File>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::try_unfold(0, move |offset: u64| {
        let archive = archive.clone();
        async move {
            let read = move || {
                let mut chunk = vec![0; CHUNK];
                let length = archive.read_at(&mut chunk, offset)?;
                chunk.truncate(length);
                Ok::<_, std::io::Error>(chunk)
            };
            let chunk = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), next)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn two_nodes_read_one_archive() {
        let mut archive = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..CHUNK + 10).map(|n| n as u8).collect();
        std::io::Write::write_all(&mut archive, &content).unwrap();
        let archive = Arc::new(archive);
        let whole = || {
            read(archive.clone()).try_fold(Vec::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
        };
        let (one, other) = futures::join!(whole(), whole());
        assert!(one.unwrap() == content && other.unwrap() == content);
    }
}
