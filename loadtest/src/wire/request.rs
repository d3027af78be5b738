//! Reading one HTTP/1.1 request out of a buffer.

/// Most headers that a request may have; more is answered 431.
const HEADERS_MAX: usize = 48;
/// Longest request head in bytes; more is answered 431.
const HEAD_MAX: usize = 16 * 1024;

/// One complete request, borrowed from the connection's buffer.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method, upper case as sent.
    pub method: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The client wants the connection closed afterwards.
    pub close: bool,
    /// The body.
    pub body: &'a [u8],
    /// How many bytes of the buffer this request takes.
    pub consumed: usize,
}

/// What stands in a buffer.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// A whole request.
    Complete(Request<'a>),
    /// More bytes are needed; the buffer should hold at least this many.
    Partial(usize),
    /// Not acceptable; answer this status and close.
    Refused(u16),
}

/// Parses the front of `buffer`. Bodies longer than `body_max` bytes are refused with 413.
#[must_use]
pub fn parse(buffer: &[u8], body_max: usize) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(buffer) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buffer.len() > HEAD_MAX => return Parsed::Refused(431),
        Ok(httparse::Status::Partial) => return Parsed::Partial(buffer.len() + 1),
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(431),
        Err(_) => return Parsed::Refused(400),
    };
    let (Some(method), Some(target)) = (head.method, head.path) else {
        return Parsed::Refused(400);
    };
    let mut body_len = 0;
    let mut authorization = None;
    let mut content_type = None;
    let mut close = head.version == Some(0);
    for header in head.headers.iter() {
        let text = || std::str::from_utf8(header.value).ok().map(str::trim);
        if header.name.eq_ignore_ascii_case("content-length") {
            let Some(len) = text().and_then(|t| t.parse::<usize>().ok()) else {
                return Parsed::Refused(400);
            };
            body_len = len;
        } else if header.name.eq_ignore_ascii_case("authorization") {
            authorization = text();
        } else if header.name.eq_ignore_ascii_case("content-type") {
            content_type = text();
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= text().is_some_and(|t| t.eq_ignore_ascii_case("close"));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Refused(411);
        }
    }
    if body_len > body_max {
        return Parsed::Refused(413);
    }
    let consumed = head_len + body_len;
    if buffer.len() < consumed {
        return Parsed::Partial(consumed);
    }
    Parsed::Complete(Request {
        method,
        target,
        authorization,
        content_type,
        close,
        body: &buffer[head_len..consumed],
        consumed,
    })
}

/// Appends a response head and body to `out`.
pub fn write_response(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8], close: bool) {
    use std::io::Write as _;
    let connection = if close { "connection: close\r\n" } else { "" };
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{connection}\r\n",
        reason(status),
        body.len()
    );
    out.extend_from_slice(body);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_at_every_split() {
        let raw = b"POST /x?y=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nContent-Length: 3\r\n\r\nabcGET";
        for cut in 0..raw.len() - 3 {
            match parse(&raw[..cut], 10) {
                Parsed::Partial(need) => assert!(need > cut),
                other => panic!("{cut}: {other:?}"),
            }
        }
        let Parsed::Complete(request) = parse(raw, 10) else {
            panic!("complete request not seen");
        };
        assert_eq!(request.body, b"abc");
        assert_eq!(request.target, "/x?y=1");
        assert_eq!(request.authorization, Some("Bearer t"));
        assert_eq!(&raw[request.consumed..], b"GET");
    }

    #[test]
    fn what_is_not_understood_is_refused_clearly() {
        let long = b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n";
        assert!(matches!(parse(long, 10), Parsed::Refused(413)));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parse(chunked, 10), Parsed::Refused(411)));
        assert!(matches!(parse(b"\x00\x01 nonsense\r\n\r\n", 10), Parsed::Refused(400)));
    }
}
