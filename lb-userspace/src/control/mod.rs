//! From what is desired to what the maps hold: compile the desired image, plan the steps, apply them in order.

pub mod image;
