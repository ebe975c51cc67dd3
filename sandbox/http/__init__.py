"""The front end of the local AWS. It parses each request once, authorises it, and passes the parsed request to moto."""
