"""The score of the sandbox against AWS: requests as data, with what AWS answers to each, sent to a sandbox and compared."""
