"""What two services need: vocabulary and events (pure), and one door to each outside library."""
