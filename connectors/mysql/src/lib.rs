//! MySQL and MariaDB as source and sink.
