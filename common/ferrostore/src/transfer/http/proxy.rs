//! The proxy that the environment names, and how it is asked: for https for a tunnel, for http for the file, as most
//! proxies allow tunnels to https only.

use super::tls::TrustedTls;
use base64::Engine as _;
use std::fmt;
use std::net::IpAddr;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Error, Proxy, ProxyProtocol};

/// The proxy that the environment names for `url`: `http_proxy` or `https_proxy`, else `all_proxy` (upper
/// case serves too), but none for the hosts in `no_proxy`.
pub(super) fn proxy_for(url: &str) -> Option<Proxy> {
    let variable = |names: &[&str]| {
        names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let (scheme, rest) = url.split_once("://")?;
    let value = if scheme.eq_ignore_ascii_case("https") {
        variable(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
    } else {
        variable(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    }?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let exempt = variable(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let spared = exempt.split([',', ' ']).map(str::trim).any(|entry| is_spared(host, entry));
    if spared {
        return None;
    }
    Proxy::new(&value)
        .inspect_err(|error| log::warn!("the proxy of the environment can't be used: {error}"))
        .ok()
}

/// Whether `entry` of `no_proxy` is about `host`: a name with all that ends in it, an address, a network
/// (`10.0.0.0/8`, `[fd00::]/8`), or `*`.
fn is_spared(host: &str, entry: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return entry == "*" || is_in_network(address, entry);
    }
    let name = entry.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !name.is_empty() && (name == "*" || host == name || host.ends_with(&format!(".{name}")))
}

fn is_in_network(address: IpAddr, network: &str) -> bool {
    let (network, length) = match network.split_once('/') {
        Some((network, length)) => (network, Some(length)),
        None => (network, None),
    };
    let network = network.trim_start_matches('[').trim_end_matches(']');
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let length = match length.map(str::parse::<u32>) {
        None => width,
        Some(Ok(length)) if length <= width => length,
        Some(_) => return false,
    };
    length == 0 || (one ^ other) >> (width - length) == 0
}

/// Connects to servers, or to the proxy in front of them.
#[derive(Debug, Default)]
pub(super) struct Connect {
    plain: DefaultConnector,
    /// Where certificates are checked.
    tls: Option<TrustedTls>,
}

impl Connect {
    /// Connects to servers with certificates that are trusted, or, unless `verify`, with any.
    pub(super) fn new(verify: bool) -> Self {
        Self { plain: DefaultConnector::default(), tls: verify.then(TrustedTls::default) }
    }
}

impl Connector<()> for Connect {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let uses_socks = details.config.proxy().is_some_and(|proxy| {
            !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
        });
        if let Some(tls) = self.tls.as_ref().filter(|_| details.needs_tls() && !uses_socks) {
            return tls.connect(details, chained);
        }
        let proxy = details
            .config
            .proxy()
            .filter(|proxy| proxy.protocol() == ProxyProtocol::Http && !details.needs_tls());
        let Some(proxy) = proxy else { return self.plain.connect(details, chained) };
        let to_proxy = ConnectionDetails {
            uri: proxy.uri(),
            addrs: details.resolver.resolve(proxy.uri(), details.config, details.timeout)?,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let connection = TcpConnector::default().connect(&to_proxy, None::<()>)?;
        Ok(connection.map(|connection| {
            let (server, credentials) = (server_of(details.uri), credentials_of(proxy));
            Box::new(Proxied { connection, server, credentials }) as Box<dyn Transport>
        }))
    }
}

/// Scheme, host and port, as a request to a proxy begins.
fn server_of(uri: &Uri) -> String {
    format!("http://{}", uri.authority().map_or("", |authority| authority.as_str()))
}

/// The header line that tells the proxy who asks.
fn credentials_of(proxy: &Proxy) -> String {
    let Some(user) = proxy.username() else { return String::new() };
    let pair = format!("{user}:{}", proxy.password().unwrap_or_default());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Proxy-Authorization: Basic {encoded}\r\n")
}

/// A connection to a proxy, whose requests name the server (RFC 9112, 3.2.2: the absolute form).
struct Proxied<T> {
    connection: T,
    server: String,
    credentials: String,
}

impl<T> fmt::Debug for Proxied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxied").field("server", &self.server).finish_non_exhaustive()
    }
}

impl<T: Transport> Transport for Proxied<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    /// A request without a body, which is all that is ever sent here, comes in one piece.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        const METHOD: &str = "GET ";
        let output = self.connection.buffers().output();
        let request = output.get(..amount).unwrap_or_default();
        let line = request.windows(2).position(|end| end == b"\r\n").map_or(amount, |at| at + 2);
        let mut asked = Vec::with_capacity(amount + self.server.len() + self.credentials.len());
        if let Some(rest) = request.strip_prefix(METHOD.as_bytes()) {
            let (path, headers) = rest.split_at(line - METHOD.len());
            asked.extend_from_slice(METHOD.as_bytes());
            asked.extend_from_slice(self.server.as_bytes());
            asked.extend_from_slice(path);
            asked.extend_from_slice(self.credentials.as_bytes());
            asked.extend_from_slice(headers);
        } else {
            asked.extend_from_slice(request);
        }
        let target = output.get_mut(..asked.len());
        target
            .ok_or_else(|| Error::Io(std::io::ErrorKind::FileTooLarge.into()))?
            .copy_from_slice(&asked);
        self.connection.transmit_output(asked.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.connection.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spared_by_name_address_and_network() {
        for (host, entry) in [
            ("host.example", "example"),
            ("Host.Example", ".example"),
            ("host.example", "*.EXAMPLE"),
            ("host.example.", "host.example"),
            ("host", "*"),
            ("10.9.8.7", "10.9.8.7"),
            ("10.9.8.7", "10.0.0.0/8"),
            ("10.9.8.7", "10.9.8.6/31"),
            ("10.9.8.7", "0.0.0.0/0"),
            ("fd12::1", "[fd00::]/8"),
            ("fd12::1", "fd00::/8"),
            ("::1", "[::1]"),
        ] {
            assert!(is_spared(host, entry), "{host} {entry}");
        }
        for (host, entry) in [
            ("host.example", "xample"),
            ("host", ""),
            ("host", "."),
            ("10.9.8.7", "11.0.0.0/8"),
            ("10.9.8.7", "10.9.8.4/31"),
            ("10.9.8.7", "10.9.8.7/33"),
            ("10.9.8.7", "10.9.8.7/x"),
            ("10.9.8.7", "8.7"),
            ("fd12::1", "[fe00::]/8"),
            ("10.9.8.7", "::/0"),
            ("10.0.0.1.example", "10.0.0.0/8"),
        ] {
            assert!(!is_spared(host, entry), "{host} {entry}");
        }
    }
}
