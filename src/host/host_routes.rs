//! The host's routes: addresses that a new network must not shadow, such as those of a VPN.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::plan::inventory::Taken;

/// The flag of a reject route (unreachable, blackhole, prohibit): `RTF_REJECT` of linux/route.h.
const REJECT: u32 = 0x0200;
/// Shorter prefixes are parts of a default route: OpenVPN and others route 0.0.0.0/1 and 128.0.0.0/1, or the four
/// quarters, so that the default route itself stays. They match everything without a more specific route,
/// including a new network's addresses, and would leave no subnet free.
const MIN_PREFIX: u8 = 3;

/// Returns the routes of the host's main table. On systems other than Linux, the engine runs in its own virtual
/// machine, whose routes are not visible: none.
pub fn of_host() -> Vec<Taken> {
    parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Parses `/proc/net/route`: addresses are hexadecimal in the host's byte order. Default routes, whole or in
/// parts, and reject routes do not count.
pub fn parse(table: &str) -> Vec<Taken> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, _, flags, _, _, _, mask, ..] = fields.as_slice() else { return None };
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let address = |text: &str| Some(Ipv4Addr::from(number(text)?.to_ne_bytes()));
        let subnet = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        let counts = subnet.prefix_len() >= MIN_PREFIX && number(flags)? & REJECT == 0;
        counts.then(|| Taken { subnet, by: format!("the route via {interface}") })
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn default_and_reject_routes_do_not_count() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            *\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n\
            tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            tun0\t00000080\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            tun0\t000000C0\t0100080A\t0003\t0\t0\t0\t000000C0\t0\t0\t0\n\
            tun0\t0000140A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let taken = parse(table);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].subnet.to_string(), "10.20.0.0/16");
        assert_eq!(taken[0].by, "the route via tun0");
    }
}
