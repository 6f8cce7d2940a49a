"""Item and user events come in, documents, vectors and columns of attributes go out."""
