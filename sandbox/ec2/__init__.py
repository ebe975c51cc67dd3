"""EC2: computers that boot, run programs and are reached by SSH."""
