"""What turns a hidden state into a reward."""
