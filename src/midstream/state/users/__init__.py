"""Events come in, packed rows of users with their last acts and affinities go out."""
