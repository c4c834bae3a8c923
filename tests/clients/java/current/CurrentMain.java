/** What only the current client does; the other cases are in `SharedMain`: `CurrentMain NAME [FILTER]`. */
public final class CurrentMain {
    private CurrentMain() {}

    public static void main(String[] arguments) throws InterruptedException {
        Suite suite = new Suite(arguments[0]);
        // The long ones first: they mostly wait.
        StreamsCases.addTo(suite);
        ConnectCases.addTo(suite);
        ProduceCases.addTo(suite);
        ConsumeCases.addTo(suite);
        GroupCases.addClassic(suite);
        ConsumerProtocolCases.addTo(suite);
        TransactionCases.addTo(suite);
        AdminTopicCases.addTo(suite);
        AdminClusterCases.addTo(suite);
        suite.runAndExit(arguments.length > 1 ? arguments[1] : "");
    }
}
