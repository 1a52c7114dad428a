#pragma once
// Sockets of tcp_world.cpp: connecting with patience, whole messages, errors with addresses.

#include <cstddef>
#include <cstdint>
#include <string>

namespace imhotep::executor {

using Deadline = double;  // seconds of the steady clock
[[nodiscard]] double clock_s();

// Listens at the port of every interface; 0: any free one. Throws: Input when the port is taken.
[[nodiscard]] int listen_at(int port);
[[nodiscard]] int port_of(int listener);
// -1 when nobody has come before the deadline.
[[nodiscard]] int accept_until(int listener, Deadline deadline);
[[nodiscard]] std::string address_of_peer(int socket);

// Tries again until the deadline. Throws: Failed with `who`, the address and the last error.
[[nodiscard]] int connect_until(const std::string& who, const std::string& address, int port,
                                Deadline deadline);

// Whole blocks on a socket that blocks. Throws: Failed with `who`.
void send_block(int socket, const void* data, std::size_t bytes, const std::string& who);
void receive_block(int socket, void* data, std::size_t bytes, const std::string& who);
void send_text(int socket, const std::string& text, const std::string& who);
[[nodiscard]] std::string receive_text(int socket, const std::string& who);

// For messages: no delay, no blocking, and a peer whose machine does not answer is given up after
// about ten seconds.
void prepare_for_messages(int socket);

}  // namespace imhotep::executor
