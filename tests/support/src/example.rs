//! A daemon for the examples in the documentation, in their own process.

use coordinated::clock::{Clock, SystemClock};
use coordinated::engine::{self, Engine};
use coordinated::jobserver::{JobServer, Settings};
use coordinated::server::{Admission, Limits, Server};
use coordinated::store::{Options, SqliteStore};
use coordinated_client::Address;
use coordinated_client::cbor::EMPTY_MAP;
use std::error::Error;
use std::path::Path;
use std::thread;

/// Runs an example with a daemon of its own, which keeps nothing.
///
/// # Errors
/// What the example returns, or why there is no daemon.
///
/// # Panics
/// If the daemon does.
pub fn with_daemon<E: Error + 'static>(
    example: impl FnOnce(&Address) -> Result<(), E>,
) -> Result<(), Box<dyn Error>> {
    let listen = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
    };
    let server = Server::bind(&[listen], Admission::default(), Limits::default(), None)?;
    let address = server.local_addresses()[0].clone();
    let stopper = server.stopper();
    let daemon = thread::spawn(|| serve(server));
    let shown = example(&address);
    stopper.stop()?;
    let served = daemon.join().expect("the daemon ends");
    shown?;
    served.map_err(|error| error as Box<dyn Error>)
}

fn serve(server: Server) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut clock = SystemClock::start();
    let now = clock.now();
    let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), now)?;
    let engine = Engine::new(
        store,
        engine::Settings::default(),
        Box::new(rand::rng()),
        now,
    )?;
    let settings = Settings {
        anonymous: coordinated::jobserver::Anonymous::default(),
        config: EMPTY_MAP.to_vec(),
        depth_max: 100,
    };
    let mut service = JobServer::new(engine, settings);
    server.run(&mut service, &mut clock)?;
    Ok(service.into_store().close()?)
}
