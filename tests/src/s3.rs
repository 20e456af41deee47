//! A real S3 server, moto, on a port of its own.

use crate::servers::{Server, free_port, python_with};
use std::{net::TcpStream, path::Path, process::Command};

/// The server; it ends when this is dropped.
pub struct S3 {
    /// Its address as a URL without a path.
    pub url: String,
    client: reqwest::Client,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl S3 {
    /// Starts it, with one empty bucket.
    pub async fn start(bucket: &str) -> Self {
        let python = python_with(&["moto[server]==5.2.5"]);
        let (port, folder) = (
            free_port(),
            tempfile::tempdir().expect("a folder can be made"),
        );
        let log = folder.path().join("log");
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .current_dir(folder.path());
        let mut server = Server::start(&mut command, &log);
        server.wait_until(&log, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let s3 = Self {
            url: format!("http://127.0.0.1:{port}"),
            client: nodes::http_client().build().expect("a client can be built"),
            _server: server,
            _folder: folder,
        };
        s3.put(bucket, Vec::new()).await;
        s3
    }

    /// Puts an object at `BUCKET/KEY`, or makes a bucket.
    pub async fn put(&self, path: &str, bytes: Vec<u8>) {
        let url = format!("{}/{path}", self.url);
        // It asks whose request it is and believes every answer.
        let whose = "AWS4-HMAC-SHA256 Credential=test/20250101/us-east-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=0";
        let request = self.client.put(url).header("authorization", whose);
        let answer = request.body(bytes).send().await.expect("moto answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Puts the files of a folder below `BUCKET/PREFIX/`.
    pub async fn put_folder(&self, prefix: &str, folder: &Path) {
        let mut open = vec![folder.to_owned()];
        while let Some(here) = open.pop() {
            for entry in std::fs::read_dir(&here).expect("the folder can be read") {
                let path = entry.expect("the folder can be read").path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let inside = path.strip_prefix(folder).expect("it is below the folder");
                let key = format!("{prefix}/{}", inside.display());
                let bytes = std::fs::read(&path).expect("the file can be read");
                self.put(&key, bytes).await;
            }
        }
    }

    /// Variables that lead a program to it at this address, which may be that of a relay.
    pub fn variables(url: &str) -> Vec<(&str, &str)> {
        vec![
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "not-a-real-secret"),
            ("AWS_REGION", "us-east-1"),
        ]
    }
}
