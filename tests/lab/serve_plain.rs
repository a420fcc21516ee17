//! The backend of the tests without HTTP: datagrams and lines, each answered with the backend's name.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The next connection, however many fail before it.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Of one connection, which is gone, or for want of files, which passes.
            Err(error) => eprintln!("weir-lab: accept: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Answers each datagram with `NAME:` and what came; returns once it listens.
pub async fn datagrams(listen: SocketAddr, name: String) -> Result<()> {
    let socket = UdpSocket::bind(listen).await.with_context(|| format!("cannot listen on {listen} for datagrams"))?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            // An error is an ICMP answer to an earlier datagram: its sender has gone.
            let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
            let answer = [name.as_bytes(), b":", &buffer[..count]].concat();
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    Ok(())
}

/// Answers each line `hello X` with `NAME X`; returns once it listens.
pub async fn lines(listen: SocketAddr, name: String) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} for lines"))?;
    tokio::spawn(async move {
        loop {
            let (stream, _) = accept(&listener).await;
            let name = name.clone();
            // A connection's failure is its client's to report.
            tokio::spawn(async move { answer_lines(stream, &name).await.ok() });
        }
    });
    Ok(())
}

async fn answer_lines(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.strip_prefix("hello ") {
            Some(stamp) => format!("{name} {stamp}\n"),
            None => format!("{name} expects: hello STAMP\n"),
        };
        writer.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
