//! One kept-alive client connection, and a one-shot helper on top of it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest answer head in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Where a URL points: `host:port` to connect to, and the path with its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub authority: String,
    /// Path and query, beginning with `/`.
    pub target: String,
}

/// Splits an absolute `http://` URL. TLS is not spoken here: in front of a TLS endpoint stands a proxy.
///
/// # Errors
/// When the URL is not absolute or not `http`.
pub fn split_url(url: &str) -> io::Result<Address> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("not an http:// URL: {url}"));
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(cut);
    if authority.is_empty() {
        return Err(bad());
    }
    let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Address { authority, target })
}

/// A connection that carries one request at a time and is kept alive between them.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    usable: bool,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    len: usize,
    body: Option<usize>,
    close: bool,
}

impl Connection {
    /// Connects with a deadline.
    ///
    /// # Errors
    /// When nobody listens, or the deadline passes.
    pub async fn open(authority: &str, deadline: Duration) -> io::Result<Self> {
        let stream = tokio::time::timeout(deadline, TcpStream::connect(authority))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024), usable: true })
    }

    /// Whether another request may be sent on it.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.usable
    }

    /// Sends `request` (head and body, already rendered) and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks; whether the request was processed is then unknown. The connection is
    /// not usable afterwards, nor when this future is dropped half-way.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.usable = false;
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
        };
        match head.body {
            Some(body) => {
                while self.buffer.len() < head.len + body {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                self.usable = !head.close;
                Ok((head.status, &self.buffer[head.len..head.len + body]))
            }
            // Without a length the body ends with the connection; it is not reused.
            None => {
                while self.stream.read_buf(&mut self.buffer).await? != 0 {}
                Ok((head.status, &self.buffer[head.len..]))
            }
        }
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let bad = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut answer = httparse::Response::new(&mut headers);
    let len = match answer.parse(buffer).map_err(bad)? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial if buffer.len() > HEAD_MAX => {
            return Err(io::ErrorKind::InvalidData.into());
        }
        httparse::Status::Partial => return Ok(None),
    };
    let status = answer.code.unwrap_or(0);
    let mut body = matches!(status, 204 | 304).then_some(0);
    let mut close = false;
    let mut chunked = false;
    for header in answer.headers.iter() {
        let text = std::str::from_utf8(header.value).unwrap_or("").trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            body = text.parse().ok();
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= text.eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = true;
        }
    }
    if chunked {
        body = None;
    }
    Ok(Some(Head { status, len, body, close }))
}

/// Renders a request with an optional body.
#[must_use]
pub fn render(method: &str, address: &Address, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "{method} {} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
        address.target,
        address.authority,
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// One request on a connection of its own, closed by the server; for occasional calls (control API, health).
///
/// # Errors
/// When the URL is bad, the connection fails or the deadline passes.
pub async fn once(method: &str, url: &str, body: &[u8], deadline: Duration) -> io::Result<(u16, Vec<u8>)> {
    let address = split_url(url)?;
    let call = async {
        let mut connection = Connection::open(&address.authority, deadline).await?;
        let head = "connection: close\r\ncontent-type: application/json\r\n";
        let request = render(method, &address, head, body);
        let (status, raw) = connection.exchange(&request).await?;
        Ok((status, raw.to_vec()))
    };
    tokio::time::timeout(deadline, call).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        let at = |url| split_url(url).expect("good URL");
        assert_eq!(at("http://h:1/a?b#c").target, "/a?b");
        assert_eq!(at("http://h/a").authority, "h:80");
        assert_eq!(at("http://h").target, "/");
        assert!(split_url("https://h/").is_err());
        assert!(split_url("http:///x").is_err());
    }

    #[test]
    fn answer_heads_are_read() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("good head");
        let head = head.expect("complete");
        assert_eq!((head.status, head.body, head.close), (200, Some(2), false));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nConte").expect("no error").is_none());
        let head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(head.expect("good").expect("complete").body, None);
    }
}
