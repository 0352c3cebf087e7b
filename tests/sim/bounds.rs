//! Nothing grows without end.

use lb::swim::{Input, Role};

use super::{
    cluster::{Cluster, seeds},
    net::{Weather, ms},
};

#[test]
fn nodes_that_come_and_go_for_hours_leave_a_bounded_list() {
    /// More than are remembered of those who are gone.
    const CYCLES: u32 = 300;
    for seed in seeds(1, 1) {
        let Cluster { mut net, balancers, .. } = Cluster::settled(seed, 1, 2, Weather::default());
        for cycle in 0..CYCLES {
            let at = format!("10.2.{}.{}:7946", cycle / 250, cycle % 250 + 1);
            net.start(Role::Node, &at, &[&balancers[0]]);
            net.run(ms(1000));
            if cycle % 2 == 0 {
                net.give(&at, Input::Leave);
                net.run(ms(500));
            }
            net.kill(&at);
            net.run(ms(3000));
        }
        let members = net.host(&balancers[0]).node.members();
        assert!(members.len() <= 3 + 256, "{}", members.len());
        net.wait_by(ms(10), ms(5000), "equal views", |net| net.views_are_equal());
    }
}
