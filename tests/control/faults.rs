//! Stories of failure: at any step, and of maps that a foreign hand has changed.

use lb_userspace::control::image::Step;
use lb_userspace::datapath::Datapath;

use crate::story::{Story, backend, service};

/// A change that needs every kind of step.
fn change(story: &mut Story) {
    story.remove_backend(3);
    story.service("web").backends.push(backend(4, 7));
    story.config.services.retain(|service| service.name.0 != "mail");
    story.config.services.push(service("dns", 53, &[5]));
    story.config.nat.port_last -= 1;
    let device = story.observed.devices[&1];
    story.observed.devices.insert(2, device);
    story.observed.cut = [3, 4].into();
}

fn stage() -> Story {
    let mut story = Story::new([service("web", 80, &[1, 2, 3]), service("mail", 25, &[3])]);
    story.settle();
    story
}

#[test]
fn a_failure_at_any_step_is_named_and_the_next_try_goes_on_from_there() {
    let mut whole = stage();
    change(&mut whole);
    let total = whole.settle();
    assert!(total > 10, "{total} steps");

    for at in 0..total {
        let mut story = stage();
        change(&mut story);
        story.memory().steps_until_failure = Some(at);
        let error = story.publish().unwrap_err().to_string();
        assert!(error.starts_with(&format!("step {} of {total} (", at + 1)), "{error}");
        assert!(error.ends_with("map TEST: update failed: told to fail"), "{error}");
        assert_eq!(*story.image(), story.reconciler.datapath().image, "it knows what is true");

        story.memory().steps_until_failure = None;
        assert_eq!(story.settle(), total - at);
        assert_eq!(story.image(), whole.image());
    }
}

#[test]
fn an_agent_that_dies_at_any_step_leaves_what_the_next_one_completes() {
    let mut whole = stage();
    change(&mut whole);
    let total = whole.settle();
    for at in 0..total {
        let mut story = stage();
        change(&mut story);
        story.memory().steps_until_failure = Some(at);
        let _ = story.publish().unwrap_err();
        story.memory().steps_until_failure = None;
        let routes = story.observed.routes.clone();
        story.restart();
        story.observed.routes = routes;
        story.settle();
        for _ in 0..2 {
            story.sweep();
            story.settle();
        }
        assert_eq!(story.image().services.len(), 2, "at {at}");
        assert_eq!(story.image().tables.keys().collect::<Vec<_>>(), story.image().rings.keys().collect::<Vec<_>>());
        assert_eq!(story.image().backends.len(), 4, "at {at}");
        assert_eq!(story.settle(), 0);
    }
}

#[test]
fn drift_is_counted_and_mended() {
    let mut story = stage();
    assert_eq!(story.reconciler.drift().unwrap(), 0);
    let before = story.image().clone();
    let key = *before.services.keys().next().unwrap();
    for step in [Step::RemoveService(key), Step::PutRing(1, [3, 1, 2].into())] {
        story.memory().image.apply(&step);
    }
    story.memory().image.backends.get_mut(&1).unwrap().flags = 3;
    // The lost service's ring goes unread with it.
    assert_eq!(story.reconciler.drift().unwrap(), 4);
    assert_eq!(*story.image(), story.reconciler.datapath().read().unwrap());
    story.settle();
    assert_eq!(*story.image(), before);
    assert_eq!(story.reconciler.drift().unwrap(), 0);
}

#[test]
fn emptied_maps_are_filled_again() {
    let mut story = stage();
    let before = story.image().clone();
    story.memory().image = lb_userspace::control::image::Image::default();
    // Settings, a device, four backends, and of two services the table, the ring and the record.
    assert_eq!(story.reconciler.drift().unwrap(), 12);
    story.settle();
    assert_eq!(*story.image(), before);
}
