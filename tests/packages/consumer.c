/* Asks a pool once and says what it answers: a program that knows libasap as installed. */
#include <asap.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *pool = argc > 1 ? argv[1] : "Packages";
    char answer[256];
    ssize_t n = -1;
    int tries, sd = -1;

    if (rsp_initialize(NULL) != 0 || (sd = rsp_socket(AF_UNSPEC, SOCK_STREAM, 0)) < 0)
        tries = 0;
    else
        tries = 100; /* its server may not be in the pool yet */
    while (tries-- > 0 && rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 0) != 0) {
        poll(NULL, 0, 100);
    }
    if (tries >= 0 && rsp_send(sd, "hello", 5, 0) == 5)
        n = rsp_recv(sd, answer, sizeof answer, 0);
    if (n < 0)
        printf("%s\n", asap_last_error());
    else
        printf("%.*s\n", (int)n, answer);
    rsp_cleanup();
    return n < 0;
}
