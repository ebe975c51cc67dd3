"""The front end of the local AWS, which reads each request once, decides on it, and gives moto what was read."""
