//! What stands before several servers where providers call: every connection goes to a random one that takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How long a server may take to accept a connection before another is tried.
const ACCEPTS_WITHIN: Duration = Duration::from_millis(500);
/// Connections go to another server after this: so a long run brings each line's webhooks to all of them.
const KEPT: Duration = Duration::from_secs(2);

/// A running balancer; it ends with this value.
#[derive(Debug)]
pub struct Balancer {
    /// Where it listens.
    pub address: SocketAddr,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Starts one that chooses by this seed.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let servers = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, Arc::clone(&servers), seed));
        Ok(Self { address, servers, task })
    }

    /// Where connections may go from now on.
    pub fn set(&self, servers: Vec<SocketAddr>) {
        *self.servers.lock() = servers;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, servers: Arc<Mutex<Vec<SocketAddr>>>, seed: u64) {
    let mut connections = JoinSet::new();
    let chance = AtomicU64::new(seed);
    while let Ok((client, _)) = listener.accept().await {
        let mut choice = servers.lock().clone();
        if !choice.is_empty() {
            // splitmix64: any mixing will do.
            let mixed = chance.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let first = (mixed >> 33) as usize % choice.len();
            choice.rotate_left(first);
        }
        connections.spawn(carry(client, choice));
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection to the first server that accepts it.
async fn carry(mut client: TcpStream, choice: Vec<SocketAddr>) {
    for server in choice {
        if let Ok(Ok(mut server)) = tokio::time::timeout(ACCEPTS_WITHIN, TcpStream::connect(server)).await {
            let both = copy_bidirectional(&mut client, &mut server);
            // Whatever was under way is sent again by the provider.
            let _ = tokio::time::timeout(KEPT, both).await;
            return;
        }
    }
}
