//! What packets do to a session's phase: the state machine, without any table. Pure.

use lb_common::addr::Protocol;
use lb_common::reason::Direction;
use lb_common::session::Phase;

use crate::headers::TcpFlags;

/// The phase of a session in `phase` after a packet.
#[inline(always)]
pub const fn next_phase(phase: Phase, direction: Direction, protocol: u8, flags: TcpFlags) -> Phase {
    let is_return = matches!(direction, Direction::Return);
    if protocol == Protocol::Udp as u8 {
        return if is_return { Phase::UdpBothWays } else { phase };
    }
    if flags.has(TcpFlags::RST) {
        return Phase::Reset;
    }
    if flags.opens() {
        // A closed tuple used again. In any other phase it is a retransmission, or a client that forgot: the backend
        // answers for itself (RFC 5961 section 4).
        return match phase {
            Phase::Closing | Phase::Reset => Phase::HalfOpen,
            other => other,
        };
    }
    if flags.has(TcpFlags::FIN) {
        return match (phase, is_return) {
            (Phase::BackendClosed, false) | (Phase::ClientClosed, true) | (Phase::Closing, _) => Phase::Closing,
            (_, false) => Phase::ClientClosed,
            (_, true) => Phase::BackendClosed,
        };
    }
    match (phase, is_return) {
        // Leaving `Reset`: its receiver did not believe it (RFC 5961 section 3), or it crossed data. If it was
        // believed after all, the answer to this packet is another reset.
        (Phase::HalfOpen, true) | (Phase::Reset, _) => Phase::Established,
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Return};

    const SYN: u8 = 2;
    const FIN_ACK: u8 = 0x11;
    const RST: u8 = 4;
    const ACK: u8 = 0x10;
    const SYN_ACK: u8 = 0x12;

    /// The phases after each packet of a story.
    fn story(packets: &[(Direction, u8)]) -> Vec<Phase> {
        let mut phase = Phase::HalfOpen;
        packets
            .iter()
            .map(|(direction, flags)| {
                phase = next_phase(phase, *direction, Protocol::Tcp as u8, TcpFlags::new(*flags));
                phase
            })
            .collect()
    }

    #[test]
    fn a_connection_from_syn_to_both_fins() {
        assert_eq!(
            story(&[
                (Forward, SYN),
                (Return, SYN_ACK),
                (Forward, ACK),
                (Forward, FIN_ACK),
                (Return, ACK),
                (Return, FIN_ACK),
                (Forward, ACK)
            ]),
            [
                Phase::HalfOpen,
                Phase::Established,
                Phase::Established,
                Phase::ClientClosed,
                Phase::ClientClosed,
                Phase::Closing,
                Phase::Closing
            ]
        );
        assert_eq!(
            story(&[(Return, SYN_ACK), (Return, FIN_ACK), (Return, FIN_ACK), (Forward, FIN_ACK)]),
            [Phase::Established, Phase::BackendClosed, Phase::BackendClosed, Phase::Closing]
        );
    }

    #[test]
    fn a_reset_that_nobody_believed_does_not_end_the_session() {
        assert_eq!(story(&[(Return, SYN_ACK), (Forward, RST), (Return, ACK)])[1..], [Phase::Reset, Phase::Established]);
    }

    #[test]
    fn a_closed_tuple_can_be_opened_again() {
        assert_eq!(
            story(&[(Return, SYN_ACK), (Forward, FIN_ACK), (Return, FIN_ACK), (Forward, SYN)])[3],
            Phase::HalfOpen
        );
        assert_eq!(story(&[(Return, RST), (Forward, SYN)]), [Phase::Reset, Phase::HalfOpen]);
    }

    #[test]
    fn a_syn_in_the_middle_changes_nothing() {
        assert_eq!(story(&[(Return, SYN_ACK), (Forward, SYN)])[1], Phase::Established);
    }

    #[test]
    fn udp_is_answered_or_not() {
        let udp = |phase, direction| next_phase(phase, direction, Protocol::Udp as u8, TcpFlags::default());
        assert_eq!(udp(Phase::UdpOneWay, Forward), Phase::UdpOneWay);
        assert_eq!(udp(Phase::UdpOneWay, Return), Phase::UdpBothWays);
        assert_eq!(udp(Phase::UdpBothWays, Forward), Phase::UdpBothWays);
    }
}
