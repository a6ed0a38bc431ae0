//! Which calls are kept from a silent server, and which ones find it silent.

use tokio::time::Instant;

use super::lane::Shared;

impl Shared {
    /// Whether calls are kept from the server until it gives a sign of life.
    pub(super) fn is_silent(&self) -> bool {
        !self.blocks && self.connector.pulse().is_silent()
    }

    /// Until when calls wait for that; `None` if they are not kept from it.
    pub(super) fn waits(&self) -> Option<Instant> {
        self.connector.pulse().waits().filter(|_| !self.blocks)
    }

    /// What a call takes with it when it is sent, for [`doubt`](Self::doubt).
    pub(super) fn mark(&self) -> u64 {
        self.connector.pulse().mark()
    }

    /// Ends when the server is silent and is to be asked for a sign of life at once.
    pub(super) async fn silence(&self) {
        if self.blocks {
            return std::future::pending().await;
        }
        self.connector.pulse().turns(true).await;
    }

    /// A call that was sent at `mark` got no reply for as long as the server may take.
    pub(super) fn doubt(&self, mark: u64, generation: u64) {
        if !self.blocks && generation != 0 {
            self.connector.pulse().miss(mark, Instant::now() + self.connector.config.knobs.grace);
        }
    }
}
