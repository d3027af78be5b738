//! The way to a server: address, token, TLS, deadlines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use sluice_proto::v1::{
    admin_service_client::AdminServiceClient, campaign_service_client::CampaignServiceClient,
    import_service_client::ImportServiceClient, line_service_client::LineServiceClient,
    message_service_client::MessageServiceClient, template_service_client::TemplateServiceClient,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::failure::{Exit, Failure, Outcome};

/// The deadline of an ordinary call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The deadline of a call that works through a whole campaign, e.g. sealing ten million recipients.
const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A batch of 1,000 messages with long histories exceeds the 4 MiB that gRPC takes by default.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Where the server is and how to be let in. The token itself never stands on the command line, where every user of the machine could read it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct ConnectArgs {
    /// Address of the server; `https://` for TLS
    #[arg(long, global = true, env = "SLUICE_SERVER", default_value = "http://127.0.0.1:7400", value_name = "URL")]
    pub server: String,
    /// File with the bearer token; otherwise the environment variable SLUICE_TOKEN
    #[arg(long, global = true, env = "SLUICE_TOKEN_FILE", value_name = "FILE", value_parser = file())]
    pub token_file: Option<PathBuf>,
    /// PEM file with the certificates that may sign the server's, instead of the system's
    #[arg(long, global = true, env = "SLUICE_CA_FILE", value_name = "FILE", value_parser = file())]
    pub ca_file: Option<PathBuf>,
    /// The longest a call may take [default: 30s, 15m for calls that work through a whole campaign]
    #[arg(long, global = true, value_name = "TIME", value_parser = super::values::duration)]
    pub timeout: Option<Duration>,
}

/// A file's name. The empty one, which an environment variable that was set to nothing brings, is none ([`given`]).
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn given(file: Option<&PathBuf>) -> Option<&Path> {
    file.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

/// Puts the token on every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

type Connection = InterceptedService<Channel, Bearer>;

/// A connection to a server; it is made with the first call, and made again when it breaks.
#[derive(Clone)]
pub struct Server {
    connection: Connection,
    timeout: Option<Duration>,
    address: String,
    has_token: bool,
}

impl Server {
    /// Prepares the connection; `token` comes from the environment.
    ///
    /// # Errors
    /// An address or a file that cannot be used: exit code 2.
    pub fn prepare(args: &ConnectArgs, token: Option<String>) -> Outcome<Self> {
        let address = args.server.as_str();
        let usage = |error: &dyn std::fmt::Display| Failure::usage(format!("--server {address}: {error}"));
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(usage(&"must begin with http:// or https://"));
        }
        let mut endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|error| usage(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if address.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            tls = match given(args.ca_file.as_ref()) {
                Some(path) => tls.ca_certificate(certificates(path)?),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| usage(&error))?;
        } else if given(args.ca_file.as_ref()).is_some() {
            return Err(usage(&"--ca-file needs an https:// address"));
        }
        let bearer = Bearer(bearer(args, token)?);
        Ok(Self {
            has_token: bearer.0.is_some(),
            connection: InterceptedService::new(endpoint.connect_lazy(), bearer),
            timeout: args.timeout,
            address: address.to_owned(),
        })
    }

    /// The address, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether a token goes over a network that others may listen to.
    #[must_use]
    pub fn exposes_token(&self) -> bool {
        let plain = self.address.strip_prefix("http://").unwrap_or_default();
        let local = ["127.", "localhost", "[::1]"].iter().any(|host| plain.starts_with(host));
        self.has_token && !plain.is_empty() && !local
    }

    /// A request with the ordinary deadline.
    pub fn request<T>(&self, message: T) -> Request<T> {
        self.deadline(message, CALL_TIMEOUT)
    }

    /// A request with the deadline for calls that work through a whole campaign.
    pub fn long_request<T>(&self, message: T) -> Request<T> {
        self.deadline(message, LONG_CALL_TIMEOUT)
    }

    fn deadline<T>(&self, message: T, default: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(default));
        request
    }

    /// The server itself.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Connection> {
        AdminServiceClient::new(self.connection.clone())
    }

    /// Campaigns.
    #[must_use]
    pub fn campaigns(&self) -> CampaignServiceClient<Connection> {
        CampaignServiceClient::new(self.connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Imports.
    #[must_use]
    pub fn imports(&self) -> ImportServiceClient<Connection> {
        ImportServiceClient::new(self.connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Lines and pools.
    #[must_use]
    pub fn lines(&self) -> LineServiceClient<Connection> {
        LineServiceClient::new(self.connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Messages.
    #[must_use]
    pub fn messages(&self) -> MessageServiceClient<Connection> {
        MessageServiceClient::new(self.connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Templates.
    #[must_use]
    pub fn templates(&self) -> TemplateServiceClient<Connection> {
        TemplateServiceClient::new(self.connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

fn bearer(args: &ConnectArgs, from_environment: Option<String>) -> Outcome<Option<MetadataValue<Ascii>>> {
    let trimmed = |token: &str| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    let token = match given(args.token_file.as_ref()) {
        Some(path) => {
            let token = trimmed(&String::from_utf8_lossy(&read_file("--token-file", path)?));
            // Somebody meant to give a token; going on without one would only say "unauthenticated".
            Some(token.ok_or_else(|| Failure::usage(format!("--token-file {}: is empty", path.display())))?)
        }
        None => from_environment.as_deref().and_then(trimmed),
    };
    let Some(token) = token else { return Ok(None) };
    // The parse error quotes nothing of the token, and neither do we.
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Failure::usage("the token has characters that cannot be in a header"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A file without a certificate would make a client that trusts nobody, and says so only as "unknown issuer".
fn certificates(path: &Path) -> Outcome<Certificate> {
    let pem = read_file("--ca-file", path)?;
    let text = String::from_utf8_lossy(&pem);
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::usage(format!("--ca-file {}: holds no certificate in PEM", path.display())));
    }
    Ok(Certificate::from_pem(pem))
}

fn read_file(option: &str, path: &Path) -> Outcome<Vec<u8>> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{option} {}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    // A chain of certificates may be long, a disk image is not one.
    if size > TOKEN_BYTES_MAX * 64 {
        return Err(wrong(&format_args!("has {size} bytes, which is too much")));
    }
    std::fs::read(path).map_err(|error| wrong(&error))
}
