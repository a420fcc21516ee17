//! How full the session tables become before a flow finds no room.

use harness::packets::{SYN, tcp};
use harness::world::World;

use crate::cast::{VIP, web};
use crate::sides::{Host, Side};

const SESSIONS: u32 = 16_384;
/// `XDP_TX`.
const TRANSMIT: u32 = 3;

#[test]
fn two_of_three_sessions_are_used_before_the_first_flow_is_refused() {
    let world = World::new().sessions(SESSIONS).nat_ports(1_024, 60_000).service(web());
    let mut host = Host::new(SESSIONS);
    host.publish(&world.image());
    host.set_inputs(1_000, 1);
    let flow = |n: u32| tcp(&format!("198.51.{}.{}:{}", n >> 16, n >> 8 & 0xff, 1_024 + (n & 0xff)), VIP).flags(SYN);
    let opened = (0..SESSIONS).take_while(|n| host.run(&flow(*n).bytes()).0 == TRANSMIT).count();
    assert!(opened > SESSIONS as usize * 2 / 3, "the first refusal came after {opened} of {SESSIONS}");
}
