"""The sandbox's EC2: computers that boot, run programs and accept SSH."""
