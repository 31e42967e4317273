"""The command line: each verb parses its words, calls one public function and prints what came back."""
