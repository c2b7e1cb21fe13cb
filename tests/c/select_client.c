#define _POSIX_C_SOURCE 200809L
/*
 * An ordinary chat client on select(2) that connects blocking, and again when its server is lost.
 *
 *     select_client HOST PORT
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return -2;
    struct sockaddr_in to;
    struct timeval patience = {.tv_sec = 60};
    memcpy(&to, list->ai_addr, sizeof to);
    freeaddrinfo(list);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    perror("select_client");
    close(fd);
    return -1;
}

int main(int argc, char **argv)
{
    char data[512];
    if (argc != 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int fd = dial(argv[1], argv[2]), over = 0;
        if (fd == -2)
            return 2;
        if (fd < 0)
            continue;
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        struct timeval patience = {0};
        socklen_t size = sizeof patience;
        if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &size) < 0 || patience.tv_sec != 60)
            return 1;
        printf("connected to %d\n", (int)ntohs(peer.sin_port));
        while (!over) {
            fd_set readable;
            FD_ZERO(&readable);
            FD_SET(fd, &readable);
            FD_SET(STDIN_FILENO, &readable);
            if (select(fd + 1, &readable, NULL, NULL, NULL) < 0)
                continue;
            if (FD_ISSET(fd, &readable)) {
                ssize_t got = recv(fd, data, sizeof data, 0);
                if (got > 0)
                    fwrite(data, 1, (size_t)got, stdout);
                over = got <= 0;
            }
            if (!over && FD_ISSET(STDIN_FILENO, &readable)) {
                ssize_t got = read(STDIN_FILENO, data, sizeof data);
                if (got <= 0) {
                    shutdown(fd, SHUT_RDWR);
                    return close(fd);
                }
                over = send(fd, data, (size_t)got, MSG_NOSIGNAL) != got;
            }
        }
        close(fd);
        printf("lost\n");
    }
}
