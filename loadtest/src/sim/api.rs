//! The provider's side of the wire: connections, answers, broken connections.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::config::TwilioAccount;
use super::core::{AccountKind, Booked, Core, Valid, too_fast};
use super::faults::{Body, Fault, Kind};
use super::ledger::{Refused, Why};
use super::pairs::PAIR_BLOCKED;
use super::tls::Wire;
use super::{date, meta, twilio};
use crate::wire::request::{Parsed, Request, parse, write_response};

/// Longest body that a provider takes here.
const BODY_MAX: usize = 1 << 20;
const JSON: &str = "application/json";
const HTML: &[u8] =
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>";

/// Accepts connections until stopped.
pub(super) async fn serve(core: Arc<Core>, listener: TcpListener, tls: Option<TlsAcceptor>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let core = Arc::clone(&core);
                let (stop, tls) = (stop.clone(), tls.clone());
                tokio::spawn(async move {
                    let served = async {
                        if let Some(wire) = Wire::open(stream, tls.as_ref()).await {
                            connection(&core, wire).await;
                        }
                    };
                    tokio::select! {
                        () = served => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            // Out of descriptors: wait for some to come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Answer,
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct Reply {
    delay_ms: u32,
    then: Then,
}

const AT_ONCE: Reply = Reply { delay_ms: 0, then: Then::Answer };

async fn connection(core: &Core, mut wire: Wire) {
    let mut buffer = vec![0; 4096];
    let mut filled = 0;
    let mut at_ns = 0;
    let mut out = Vec::with_capacity(1024);
    loop {
        match parse(&buffer[..filled], BODY_MAX) {
            Parsed::Complete(request) => {
                out.clear();
                let reply = handle(core, &request, at_ns, &mut out);
                let (consumed, close) = (request.consumed, request.close);
                if reply.delay_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(u64::from(reply.delay_ms))).await;
                }
                if reply.then == Then::Reset {
                    reset(wire.socket());
                    return;
                }
                if wire.write_all(&out).await.is_err() || close {
                    return;
                }
                buffer.copy_within(consumed..filled, 0);
                filled -= consumed;
                if filled > 0 {
                    // A pipelined request: it was here by the time of the last read.
                    continue;
                }
            }
            Parsed::Partial(need) if filled == 0 => debug_assert!(need > 0),
            Parsed::Partial(need) => {
                if buffer.len() < need {
                    buffer.resize(need.max(buffer.len() * 2), 0);
                }
            }
            Parsed::Refused(status) => {
                refused(core, None, u32::from(status), status, at_ns, "");
                out.clear();
                write_response(&mut out, status, "text/plain", b"", true);
                let _ = wire.write_all(&out).await;
                return;
            }
        }
        match wire.read(&mut buffer[filled..]).await {
            Ok((0, _)) | Err(_) => {
                if filled > 0 {
                    unanswered(core, &buffer[..filled], at_ns, Why::Cut);
                }
                return;
            }
            Ok((read, kernel)) => {
                if filled == 0 {
                    at_ns = core.clock.stamp(kernel);
                    // To the sender it is as if nobody had read. Only the books know what it was.
                    if core.reset_unread() {
                        reset(wire.socket());
                        unanswered(core, &buffer[..read], at_ns, Why::Reset);
                        return;
                    }
                }
                filled += read;
            }
        }
    }
}

/// Closing with a linger of zero sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(stream, sockopt::Linger, &at_once);
}

fn handle(core: &Core, request: &Request<'_>, at_ns: u64, out: &mut Vec<u8>) -> Reply {
    if request.method != "POST" {
        refused(core, None, 405, 405, at_ns, "");
        write_response(out, 405, "text/plain", b"", false);
        return AT_ONCE;
    }
    if let Some(id) = meta::path(request.target) {
        return handle_meta(core, id, request, at_ns, out);
    }
    if let Some(sid) = twilio::path(request.target) {
        return handle_twilio(core, sid, request, at_ns, out);
    }
    refused(core, None, 404, 404, at_ns, "");
    write_response(out, 404, "text/plain", b"no such path\n", false);
    AT_ONCE
}

/// Books a request that something is wrong with.
fn refused(core: &Core, line: Option<u16>, code: u32, http: u16, at_ns: u64, correlation: &str) {
    core.refuse(&Refused { at_ns, line, correlation, code, http, cost: 1, why: Why::Wrong });
}

/// Books a request that gets no answer, with as much as can be read of it.
fn unanswered(core: &Core, raw: &[u8], at_ns: u64, why: Why) {
    let mut booked = (None, String::new(), 1);
    if let Parsed::Complete(request) = parse(raw, BODY_MAX) {
        if let Some(id) = meta::path(request.target) {
            let line = core.lines.iter().position(|line| line.id == id).map(|place| place as u16);
            booked = (line, meta::correlation_of(request.body), 1);
        } else if let Some((place, account)) = twilio_account(core, request.authorization.unwrap_or("")) {
            let checked = twilio::check(account, request.content_type, request.body).ok();
            let line = checked.as_ref().and_then(|checked| core.line(place, &checked.line));
            booked = (line, twilio_correlation(core, request.body), checked.map_or(1, |checked| checked.parts));
        }
    }
    let (line, correlation, cost) = booked;
    core.refuse(&Refused { at_ns, line, correlation: &correlation, code: 0, http: 0, cost, why });
}

fn twilio_account<'a>(core: &'a Core, given: &str) -> Option<(usize, &'a TwilioAccount)> {
    core.accounts.iter().enumerate().find_map(|(place, account)| match &account.kind {
        AccountKind::Twilio(account, basics, _) if basics.iter().any(|basic| basic == given) => Some((place, account)),
        _ => None,
    })
}

/// The correlation id of a form that may be wrong otherwise.
fn twilio_correlation(core: &Core, body: &[u8]) -> String {
    let url = twilio::callback_of(body).unwrap_or_default();
    twilio::split_callback(&url, &core.config.correlation_parameter).1.to_owned()
}

fn handle_meta(core: &Core, id: &str, request: &Request<'_>, at_ns: u64, out: &mut Vec<u8>) -> Reply {
    let given = request.authorization.unwrap_or("");
    let found = core.accounts.iter().enumerate().find_map(|(place, a)| match &a.kind {
        AccountKind::Meta(account, bearer, _) if bearer == given => Some((place, account)),
        _ => None,
    });
    let Some((place, account)) = found else {
        refused(core, None, 190, 401, at_ns, &meta::correlation_of(request.body));
        let body = meta::error_body(190, "The access token is missing or not valid.");
        write_response(out, 401, JSON, &body, false);
        return AT_ONCE;
    };
    let Some(line) = core.line(place, id) else {
        refused(core, None, 33, 400, at_ns, &meta::correlation_of(request.body));
        let body = meta::error_body(33, "The phone number id does not exist or is not yours.");
        write_response(out, 400, JSON, &body, false);
        return AT_ONCE;
    };
    let own_number = &core.lines[usize::from(line)].number;
    let checked = match meta::check(account, own_number, request.content_type, request.body) {
        Ok(checked) => checked,
        Err(problem) => {
            refused(core, Some(line), problem.code, problem.http, at_ns, &meta::correlation_of(request.body));
            let body = meta::error_body(problem.code, &problem.details);
            write_response(out, problem.http, JSON, &body, false);
            return AT_ONCE;
        }
    };
    let valid = Valid {
        line,
        recipient: checked.recipient,
        content: checked.content,
        correlation: &checked.correlation,
        url: None,
        cost: 1,
        whatsapp: true,
    };
    let error = |out: &mut Vec<u8>, http: u16, code: u32| {
        let body = meta::error_body(code, meta::title(code));
        write_response(out, http, JSON, &body, false);
    };
    let success = |out: &mut Vec<u8>, number: u32| {
        let id = core.provider_id(place, number);
        let mut body = Vec::with_capacity(200);
        meta::write_success(&mut body, checked.recipient, &id, checked.template);
        write_response(out, 200, JSON, &body, false);
    };
    answer(core, &valid, at_ns, out, error, success)
}

fn handle_twilio(core: &Core, sid: &str, request: &Request<'_>, at_ns: u64, out: &mut Vec<u8>) -> Reply {
    let given = request.authorization.unwrap_or("");
    let found = twilio_account(core, given);
    let lost = |code, http| refused(core, None, code, http, at_ns, &twilio_correlation(core, request.body));
    let error = |out: &mut Vec<u8>, http: u16, code: u32, message: &str| {
        write_response(out, http, JSON, &twilio::error_body(http, code, message), false);
    };
    let Some((place, account)) = found else {
        lost(20_003, 401);
        error(out, 401, 20_003, "Authenticate");
        return AT_ONCE;
    };
    if account.sid != sid {
        lost(20_404, 404);
        error(out, 404, 20_404, "The requested resource was not found.");
        return AT_ONCE;
    }
    let checked = match twilio::check(account, request.content_type, request.body) {
        Ok(checked) => checked,
        Err(problem) => {
            lost(problem.code, problem.http);
            error(out, problem.http, problem.code, problem.message);
            return AT_ONCE;
        }
    };
    let Some(line) = core.line(place, &checked.line) else {
        lost(21_606, 400);
        error(out, 400, 21_606, "The 'From' number cannot send messages.");
        return AT_ONCE;
    };
    let parameter = &core.config.correlation_parameter;
    let callback = checked.callback.as_deref().map(|url| twilio::split_callback(url, parameter));
    let valid = Valid {
        line,
        recipient: checked.recipient,
        content: checked.content,
        correlation: callback.map_or("", |(_, value, _)| value),
        url: callback.map(|(before, _, after)| (before, after)),
        cost: checked.parts,
        whatsapp: checked.whatsapp,
    };
    let fault = |out: &mut Vec<u8>, http: u16, code: u32| error(out, http, code, "Error");
    let success = |out: &mut Vec<u8>, number: u32| {
        let id = core.provider_id(place, number);
        let mut body = Vec::with_capacity(900);
        let date = date::rfc_2822(at_ns / 1_000_000_000);
        twilio::write_success(&mut body, account, &checked, &id, &date);
        write_response(out, 201, JSON, &body, false);
    };
    answer(core, &valid, at_ns, out, fault, success)
}

/// Books the request and renders what was decided.
fn answer(
    core: &Core,
    valid: &Valid<'_>,
    at_ns: u64,
    out: &mut Vec<u8>,
    error: impl Fn(&mut Vec<u8>, u16, u32),
    success: impl Fn(&mut Vec<u8>, u32),
) -> Reply {
    let (booked, delay_ms) = core.book(valid, at_ns);
    let too_fast = too_fast(&core.accounts[core.lines[usize::from(valid.line)].account].kind);
    let reply = Reply { delay_ms, then: Then::Answer };
    let fault = match booked {
        Booked::Accepted(number, None) => {
            success(out, number);
            return reply;
        }
        Booked::TooFast => {
            error(out, too_fast.0, too_fast.1);
            return reply;
        }
        Booked::PairBlocked => {
            error(out, too_fast.0, PAIR_BLOCKED);
            return reply;
        }
        Booked::Accepted(_, Some(fault)) | Booked::Refused(fault) => fault,
    };
    match fault.kind {
        Kind::RateLimit => error(out, too_fast.0, too_fast.1),
        Kind::Error | Kind::AcceptThenError => spoil(out, &fault, error),
        Kind::Hang | Kind::AcceptThenHang => {
            return Reply { delay_ms: delay_ms + fault.ms, then: Then::Reset };
        }
        Kind::AcceptThenReset => {
            return Reply { delay_ms, then: Then::Reset };
        }
        // Decided elsewhere: the first before reading, the second as time added to the answer.
        Kind::ResetUnread | Kind::Delay => {}
    }
    reply
}

fn spoil(out: &mut Vec<u8>, fault: &Fault, error: impl Fn(&mut Vec<u8>, u16, u32)) {
    match fault.body {
        Body::Json => error(out, fault.http, fault.code),
        Body::Html => write_response(out, fault.http, "text/html", HTML, false),
        Body::Empty => write_response(out, fault.http, "text/plain", b"", false),
    }
}
