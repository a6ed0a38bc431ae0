//! The world as stateright sees it.

use stateright::{Model, Property};

use crate::action::Action;
use crate::config::Config;
use crate::ghost::Rule;
use crate::world::World;

/// The name of the property that shows that the model gets somewhere.
pub const REACHED: &str = "every process that reads holds a new value";

/// A run of the model.
#[derive(Clone, Copy, Debug)]
pub struct Proof(pub Config);

impl Model for Proof {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.0)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        state.actions(&self.0, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        last.after(&self.0, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P1 far", |_, w: &World| !w.is_stale()),
            Property::always("P2 own writes", |_, w: &World| w.ghost.holds(Rule::Own)),
            Property::always("P3 bound", |_, w: &World| w.ghost.holds(Rule::Bound)),
            Property::always("P4 monotonic", |_, w: &World| w.ghost.holds(Rule::Monotonic)),
            Property::always("P5 tags", |_, w: &World| w.ghost.holds(Rule::Tags)),
            Property::always("P6 strict", |_, w: &World| w.ghost.holds(Rule::Strict)),
            Property::always("P7 fallbacks", |proof, w: &World| {
                w.ghost.holds(Rule::Fallback) && w.may_fall_back(&proof.0)
            }),
            Property::always("P8 kept", |_, w: &World| w.ghost.holds(Rule::Kept)),
            Property::sometimes(REACHED, |_, w: &World| w.all_hold_a_new_value()),
        ]
    }
}
