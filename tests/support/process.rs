//! A server in a process of its own.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tonic::transport::Channel;

/// A server process.
pub struct Server {
    process: Child,
    pub channel: Channel,
}

impl Server {
    /// Serves a registry by the config in its folder.
    pub async fn start(root: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--registry"]).arg(root);
        Self::spawn(command.arg("--config").arg(root.join("kindred.toml"))).await
    }

    /// Serves a registry in a shell that first says something.
    pub async fn start_after(words: &str, root: &Path) -> Self {
        let serve = r#"exec "$0" serve --listen 127.0.0.1:0 --registry "$1""#;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{words}; {serve}")).arg(env!("CARGO_BIN_EXE_kindred")).arg(root);
        Self::spawn(&mut command).await
    }

    async fn spawn(command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = listening.split("address=").nth(1).unwrap().trim().to_owned();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { process, channel }
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) {
        let status = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert!(self.process.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        // SIGKILL, on Unix.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
