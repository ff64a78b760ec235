%% A rabbitmqctl that stays, started by rabbitmqctl.py: each line that comes is the arguments of a command; behind what the
%% command prints comes a line with a zero byte and its exit code. What runs is RabbitMQ's own rabbitmqctl.
-module(rabbitmqctl).
-export([serve/0]).

serve() ->
    {ok, _} = application:ensure_all_started(elixir),
    {ok, _} = application:ensure_all_started(rabbitmqctl),
    ok = logger:set_primary_config(level, none), % of their own
    ok = io:setopts(standard_io, [binary, {encoding, unicode}]),
    commands().

commands() ->
    case io:get_line("") of
        eof ->
            halt(0);
        Line ->
            Code = run([base64:decode(Word) || <<":", Word/binary>> <- string:lexemes(Line, " \n")]),
            io:format("~n~c~b~n", [0, Code]),
            commands()
    end.

run(Arguments) ->
    case 'Elixir.RabbitMQCtl':exec_command(Arguments, fun print/3) of
        {_, Code, nil} when is_integer(Code) ->
            Code;
        {_, Code, Text} when is_integer(Code) ->
            [io:put_chars(['Elixir.RabbitMQ.CLI.Core.Helpers':string_or_inspect(Line), "\n"]) || Line <- lists:flatten([Text])],
            Code;
        {error, Why} ->
            io:format("~tp~n", [Why]),
            1;
        _ ->
            0
    end.

print(Said, Command, Options) ->
    Formatter = 'Elixir.RabbitMQ.CLI.Core.Config':get_formatter(Command, Options),
    Printer = 'Elixir.RabbitMQ.CLI.Core.Config':get_printer(Command, Options),
    Formatted = 'Elixir.RabbitMQ.CLI.Core.Output':format_output(Said, Formatter, Options),
    'Elixir.RabbitMQ.CLI.Core.Output':print_output(Formatted, Printer, Options).
