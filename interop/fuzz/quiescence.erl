%% Loaded into the RabbitMQ under test by quiescence.py: says when no process of the node has anything to do.
%%
%% A byte that comes on its socket is answered with a byte, as soon as every process of the node waits and has an empty
%% mailbox, twice in a row: then all that followed from what clients have sent so far has happened.
-module(quiescence).
-export([start/0]).

-define(PATIENCE_MS, 30000).

start() ->
    Parent = self(),
    Server = spawn(fun() -> listen(Parent) end),
    receive {Server, Port} -> Port end.

listen(Parent) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    Parent ! {self(), Port},
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    serve(Socket),
    accept(Listener).

serve(Socket) ->
    case gen_tcp:recv(Socket, 1) of
        {ok, _} ->
            Deadline = erlang:monotonic_time(millisecond) + ?PATIENCE_MS,
            ok = gen_tcp:send(Socket, wait(2, Deadline)),
            serve(Socket);
        {error, _} ->
            gen_tcp:close(Socket)
    end.

wait(0, _Deadline) ->
    <<"q">>;
wait(Times, Deadline) ->
    case busy(erlang:processes()) of
        [] ->
            wait(Times - 1, Deadline);
        Busy ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    iolist_to_binary(["not quiet: ", io_lib:format("~0p", [[about(P) || P <- Busy]])]);
                false ->
                    erlang:yield(),
                    wait(2, Deadline)
            end
    end.

about(Process) ->
    {Process, erlang:process_info(Process, [registered_name, status, message_queue_len, current_stacktrace, dictionary])}.

busy([]) ->
    [];
busy([Process | Rest]) when Process =:= self() ->
    busy(Rest);
busy([Process | Rest]) ->
    case erlang:process_info(Process, [status, message_queue_len]) of
        [{status, waiting}, {message_queue_len, 0}] -> busy(Rest);
        undefined -> busy(Rest);
        _ -> [Process]
    end.
